"""The guestbook's API and page: Python's HTTP server, PostgreSQL for the entries, Redis for counting and caching."""

from __future__ import annotations

import html
import json
import os
import signal
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import psycopg2
import redis

CACHE_KEY = "entries"
CACHE_SECONDS = 60
MAX_BODY = 64 * 1024

cache = redis.Redis(host=os.environ["CACHE_HOST"], socket_timeout=2, socket_connect_timeout=2)


def connect() -> Any:
    """A new database connection; the password is read each time, so that a rotated secret works at once."""
    password = Path(os.environ["DATABASE_PASSWORD_FILE"]).read_text().strip()
    return psycopg2.connect(os.environ["DATABASE"], password=password)


def load_entries() -> list[dict[str, Any]]:
    """The newest hundred entries, from the cache when it has them."""
    cached = cache.get(CACHE_KEY)
    if cached is not None:
        return json.loads(cached)
    connection = connect()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, author, message, to_char(written_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
                " FROM entries ORDER BY id DESC LIMIT 100"
            )
            names = ("id", "author", "message", "written_at")
            entries = [dict(zip(names, row, strict=False)) for row in cursor.fetchall()]
    finally:
        connection.close()
    cache.set(CACHE_KEY, json.dumps(entries), ex=CACHE_SECONDS)
    return entries


def write_entry(author: str, message: str) -> int:
    """Stores an entry and returns its number."""
    connection = connect()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO entries (author, message) VALUES (%s, %s) RETURNING id", (author, message))
            number = int(cursor.fetchone()[0])
    finally:
        connection.close()
    cache.delete(CACHE_KEY)
    return number


def check_health() -> None:
    """Raises when the database or the cache does not answer."""
    cache.ping()
    connection = connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM entries LIMIT 1")
    finally:
        connection.close()


def render_page(entries: list[dict[str, Any]], visits: int) -> str:
    """The whole page, with every foreign text escaped."""
    items = "".join(
        f"<article><p>{html.escape(entry['message'])}</p>"
        f"<footer>{html.escape(entry['author'])}, {entry['written_at']} UTC</footer></article>"
        for entry in entries
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Guestbook</title>"
        "<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:3rem auto;padding:0 1rem}"
        "input,textarea{font:inherit;width:100%;box-sizing:border-box;margin:.2rem 0}"
        "footer{color:#666;font-size:.9rem}</style>"
        "<h1>Guestbook</h1><form method=post action=/><input name=author placeholder=Name maxlength=80 required>"
        "<textarea name=message placeholder=Message maxlength=2000 required></textarea><button>Sign</button></form>"
        f"{items}<hr><small>Visit {visits}, answered by {html.escape(socket.gethostname())}</small></html>"
    )


class Handler(BaseHTTPRequestHandler):
    """``GET /`` page, ``GET /entries`` JSON, ``POST /entries`` JSON, ``POST /`` form, ``GET /health``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(self.check)
        elif self.path == "/entries":
            self.answer(lambda: (HTTPStatus.OK, "application/json", json.dumps(load_entries())))
        elif self.path == "/":
            self.answer(lambda: (HTTPStatus.OK, "text/html", render_page(load_entries(), int(cache.incr("visits")))))
        else:
            self.send(HTTPStatus.NOT_FOUND, "text/plain", "not found\n")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            self.send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", "too long\n")
            return
        body = self.rfile.read(length).decode(errors="replace")
        if self.path == "/entries":
            self.answer(lambda: self.store_json(body))
        elif self.path == "/":
            self.answer(lambda: self.store_form(body))
        else:
            self.send(HTTPStatus.NOT_FOUND, "text/plain", "not found\n")

    def check(self) -> tuple[HTTPStatus, str, str]:
        check_health()
        return HTTPStatus.OK, "text/plain", "ok\n"

    def store_json(self, body: str) -> tuple[HTTPStatus, str, str]:
        entry = json.loads(body)
        number = write_entry(str(entry["author"]), str(entry["message"]))
        return HTTPStatus.CREATED, "application/json", json.dumps({"id": number})

    def store_form(self, body: str) -> tuple[HTTPStatus, str, str]:
        fields = parse_qs(body)
        write_entry(fields["author"][0], fields["message"][0])
        return HTTPStatus.SEE_OTHER, "text/plain", ""

    def answer(self, work: Any) -> None:
        """Runs `work` and sends what it returns, or the error it raised."""
        try:
            status, kind, text = work()
        except (KeyError, TypeError, ValueError, psycopg2.errors.CheckViolation) as error:
            status, kind, text = (
                HTTPStatus.BAD_REQUEST,
                "text/plain",
                "bad entry: " + str(error).partition("\n")[0] + "\n",
            )
        except (psycopg2.Error, redis.RedisError, OSError) as error:
            status, kind, text = HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n"
        self.send(status, kind, text)

    def send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        if status == HTTPStatus.SEE_OTHER:
            self.send_header("Location", "/")
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    # Both families on one socket, and a clean end on SIGTERM: process 1 has no default handlers.
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6
        daemon_threads = True

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    server = Server(("::", 8000), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("listening on port 8000", flush=True)
    server.serve_forever(poll_interval=0.2)


if __name__ == "__main__":
    main()

"""A web server on loopback that knows ETags, broken answers and directories."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .places import digest_of

MODIFIED = "Sun, 09 Sep 2001 01:46:40 GMT"


class Web:
    """`files` by path (with headers `plain` for those without validators); `seen` are (method, path, condition).

    With `authorization` set, whoever does not send it is turned away; `sent` is what was.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.bare: set[str] = set()
        self.short: set[str] = set()
        self.statuses: dict[str, int] = {}
        self.folder: Path | None = None
        self.seen: list[tuple[str, str]] = []
        self.address = ""
        self.authorization = ""
        self.sent: set[str] = set()

    def find(self, path: str) -> bytes | None:
        if self.folder is not None and (self.folder / path.lstrip("/")).is_file():
            return (self.folder / path.lstrip("/")).read_bytes()
        return self.files.get(path)


@contextmanager
def serve_web() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            condition = self.headers.get("If-None-Match") or self.headers.get("If-Modified-Since") or ""
            web.seen.append((path, condition))
            sent = self.headers.get("Authorization") or ""
            web.sent.add(sent)
            if sent != web.authorization:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = web.find(path)
            status = web.statuses.get(path, 200 if data is not None else 404)
            data = data if status == 200 and data is not None else b"no"
            tag = f'"{digest_of(data)[7:20]}"'
            if status == 200 and path not in web.bare and condition == tag:
                self.send_response(304)
                self.end_headers()
                return
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", "/moved")
            if path not in web.bare:
                self.send_header("ETag", tag)
                self.send_header("Last-Modified", MODIFIED)
            self.send_header("Content-Length", str(len(data) + (9 if path in web.short else 0)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    web.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

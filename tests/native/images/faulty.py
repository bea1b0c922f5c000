"""A proxy before a registry that misbehaves on purpose, and a token server."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on to `upstream`. `before(handler)` may answer itself (then returns True); `cut` is a number of
    body bytes after which blob downloads break off; `flip` damages blobs.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.cut = 0
        self.flip = False
        self.ignore_range = False
        self.before: Callable[[BaseHTTPRequestHandler], bool] = lambda _: False
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.counts: Counter[str] = Counter()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def blob_requests(self) -> list[tuple[str, dict[str, str]]]:
        return [(path, headers) for method, path, headers in self.seen if method == "GET" and "/blobs/" in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy
    body: bytes | None = None

    def log_message(self, *_: Any) -> None:
        pass

    def _pass(self) -> None:
        server = self.server
        headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
        server.seen.append((self.command, self.path, dict(self.headers.items())))
        server.counts[self.path] += 1
        body = self.body = self._read_body()
        if server.before(self):
            return
        if server.ignore_range:
            headers.pop("Range", None)
        headers.pop("Transfer-Encoding", None)
        upstream = http.client.HTTPConnection(server.upstream)
        upstream.request(self.command, self.path, body=body, headers=headers)
        answer = upstream.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(key, value.replace(server.upstream, server.host))
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        blob = self.command == "GET" and "/blobs/" in self.path
        if blob and server.flip and len(data) > 4096:
            data = data[:2000] + bytes([data[2000] ^ 1]) + data[2001:]
        if blob and server.cut and len(data) > server.cut:
            self.wfile.write(data[: server.cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(data)
        upstream.close()

    def _read_body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length) if length else None

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass


def answer(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes = b"") -> bool:
    """Answer instead of the registry."""
    handler.send_response(status)
    for key, value in headers.items():
        handler.send_header(key, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
    return True


@contextmanager
def run_proxy(upstream: str) -> Iterator[FaultyProxy]:
    server = FaultyProxy(upstream)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def require_bearer(proxy: FaultyProxy, user: str, password: str, life: int = 300) -> list[dict[str, list[str]]]:
    """Make the proxy ask for tokens, which it also gives out at ``/token``. Returns the list of queries seen there."""
    queries: list[dict[str, list[str]]] = []
    tokens: dict[str, list[str]] = {}
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def before(handler: BaseHTTPRequestHandler) -> bool:
        parts = urlsplit(handler.path)
        if parts.path == "/token" and handler.command == "POST":  # OAuth2: an identity token for an access token
            form = parse_qs((handler.body or b"").decode())  # type: ignore[attr-defined]
            queries.append(form)
            if form.get("grant_type") != ["refresh_token"] or form.get("refresh_token") != [f"identity of {user}"]:
                return answer(handler, 401, {})
            token = hashlib.sha256(f"{len(queries)}".encode()).hexdigest()
            tokens[token] = form["scope"]
            return answer(handler, 200, {}, json.dumps({"access_token": token, "expires_in": life}).encode())
        if parts.path == "/token":
            query = parse_qs(parts.query)
            queries.append(query)
            if user and handler.headers.get("Authorization") != expected:
                return answer(handler, 401, {})
            token = hashlib.sha256(f"{len(queries)}".encode()).hexdigest()
            tokens[token] = query.get("scope", [])
            return answer(handler, 200, {}, json.dumps({"token": token, "expires_in": life}).encode())
        bearer = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if parts.path == "/v2/" and bearer in tokens:
            return answer(handler, 200, {})
        action = "pull" if handler.command in ("GET", "HEAD") else "push"
        name = parts.path.removeprefix("/v2/").split("/manifests/")[0].split("/blobs/")[0]
        if any(one.startswith(f"repository:{name}:") and action in one for one in tokens.get(bearer, ())):
            handler.headers.replace_header("Authorization", "")
            return False
        challenge = f'Bearer realm="http://{proxy.host}/token",service="test"'
        if parts.path != "/v2/":
            challenge += f',scope="repository:{name}:{action}"'
        return answer(handler, 401, {"WWW-Authenticate": challenge})

    proxy.before = before
    return queries

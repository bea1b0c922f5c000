"""A web server on loopback with files, archives and a git repository, for ADD and for remote contexts."""

from __future__ import annotations

import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .context import make_tar, read_content

LAST_MODIFIED = "Sun, 09 Sep 2001 01:46:40 GMT"

TREE: dict[str, Any] = {"inside/": None, "inside/one.txt": "one\n", "two.txt": {"content": "two\n", "mode": 0o600}}
CONTEXT: dict[str, Any] = {"Dockerfile": "FROM busybox\nCOPY in.txt /in.txt\n", "in.txt": "from the tar\n"}
FILES: dict[str, bytes] = {
    "/file.txt": b"remote\n",
    "/dir/other.txt": b"other\n",
    "/name%20with.txt": b"spaced\n",
    "/tree.tar": make_tar(TREE),
    "/tree.tar.gz": read_content({"archive": TREE, "compress": "gzip"}),
    "/context.tar.gz": read_content({"archive": CONTEXT, "compress": "gzip"}),
    "/Dockerfile": b"FROM busybox\nRUN echo from the web > /web\n",
}
IDENTITY = {
    "GIT_AUTHOR_NAME": "A U Thor",
    "GIT_AUTHOR_EMAIL": "author@example.com",
    "GIT_COMMITTER_NAME": "A U Thor",
    "GIT_COMMITTER_EMAIL": "author@example.com",
    "GIT_AUTHOR_DATE": "2001-09-09T01:46:40Z",
    "GIT_COMMITTER_DATE": "2001-09-09T01:46:40Z",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


class FileServer:
    """Serves FILES and the repository ``/repo.git`` until `close` is called."""

    def __init__(self, work: Path) -> None:
        self.work = work
        make_repository(work)
        server = _Server(("127.0.0.1", 0), _Handler)
        server.work = work  # type: ignore[attr-defined]
        self.server = server
        self.address = f"http://127.0.0.1:{server.server_port}"
        self.thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self) -> None:
        """Stop, and wait for it."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is the client's affair."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/repo.git"):
            self._serve_git(path, query)
        elif path in FILES:
            self.send_response(200)
            self.send_header("Last-Modified", LAST_MODIFIED)
            self._send(FILES[path], "application/octet-stream" if path != "/Dockerfile" else "text/plain")
        else:
            self.send_response(404)
            self._send(b"not found\n", "text/plain")

    do_HEAD = do_GET
    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _send(self, data: bytes, content_type: str) -> None:
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _serve_git(self, path: str, query: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.server.work),  # type: ignore[attr-defined]
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment, check=False)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        headers = [line.partition(": ") for line in head.decode().splitlines()]
        status = next((value for key, _, value in headers if key == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        kind = next((value for key, _, value in headers if key == "Content-Type"), "text/plain")
        self._send(data, kind)


def make_repository(work: Path) -> None:
    """A repository with two commits on ``main``, a branch ``other``, a tag ``v1`` and a context in ``sub``."""
    source = work / "source"
    source.mkdir(parents=True)
    environment = {**os.environ, **IDENTITY}

    def run(*command: str) -> None:
        subprocess.run(["git", "-C", str(source), *command], check=True, capture_output=True, env=environment)

    run("init", "--quiet", "--initial-branch=main")
    (source / "Dockerfile").write_text("FROM busybox\nCOPY a.txt /a.txt\n")
    (source / "a.txt").write_text("first\n")
    (source / "sub").mkdir()
    (source / "sub" / "Dockerfile").write_text("FROM busybox\nCOPY b.txt /b.txt\n")
    (source / "sub" / "b.txt").write_text("below\n")
    run("add", ".")
    run("commit", "--quiet", "-m", "first")
    run("tag", "v1")
    run("checkout", "--quiet", "-b", "other")
    (source / "a.txt").write_text("other\n")
    run("commit", "--quiet", "-a", "-m", "other")
    run("checkout", "--quiet", "main")
    (source / "a.txt").write_text("second\n")
    run("commit", "--quiet", "-a", "-m", "second")
    run("clone", "--quiet", "--bare", str(source), str(work / "repo.git"))

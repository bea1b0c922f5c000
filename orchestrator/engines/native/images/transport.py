"""HTTP to registries: connections that are kept, TLS with the right authorities, proxies, retries, clear errors.

On http.client and threads: nothing else starts as fast, and layers come in parallel threads anyway.
"""

from __future__ import annotations

import functools
import http.client
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from orchestrator.engines.native.images.connecting import explain_failure, is_passing
from orchestrator.engines.native.images.content import Cancel, check_cancel
from orchestrator.engines.native.images.failures import RateLimited, RegistryFault, RegistryUnreachable, TlsFailure
from orchestrator.engines.native.images.proxies import Proxy, explain_proxy, find_proxy
from orchestrator.engines.native.images.registries import RegistrySettings, is_loopback, split_port

if TYPE_CHECKING:
    from pathlib import Path

CONNECT_TIMEOUT = 15.0  # seconds
READ_TIMEOUT = 60.0
ATTEMPTS = 6
LONGEST_WAIT = 60.0  # seconds that a Retry-After may ask for
_MOMENT = 1.0  # seconds that are waited in silence
_LOOK = 0.1  # seconds between two looks at whether to stop
_AGENT = "stack/0.1 (OCI distribution client)"
_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_BROKEN = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError, OSError)

Body = bytes | Callable[[], Iterable[bytes]] | None


@dataclass(slots=True)
class Response:
    """An answer whose body is still to be read. Closing it early gives the connection up."""

    status: int
    headers: Mapping[str, str]
    url: str
    _answer: http.client.HTTPResponse
    _release: Callable[[bool], None]
    _closed: bool = field(default=False)

    def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes. Raises RegistryFault if it is longer."""
        try:
            data = self._answer.read(limit + 1)
        except _BROKEN as error:
            self.close()
            raise explain_failure(error, urlsplit(self.url).netloc, self.url) from error
        if len(data) > limit:
            self.close()
            raise RegistryFault(f"{self.url} sent more than {limit} bytes", resource=self.url, operation="read")
        self.close()
        return data

    def read_piece(self, size: int) -> bytes:
        """Up to `size` bytes as they come, empty at the end. Raises the errors of `BROKEN_TRANSFER`."""
        return self._answer.read1(size)

    def close(self) -> None:
        """Give the connection back if the body was read to its end, otherwise close it."""
        if not self._closed:
            self._closed = True
            self._release(self._answer.isclosed())

    def header(self, name: str) -> str:
        """A header, case-insensitively; empty if absent."""
        return self._answer.getheader(name) or ""


BROKEN_TRANSFER = _BROKEN


class Transport:
    """Requests to any host, from any thread.

    As a context it watches `cancel`: a request that waits for a silent server ends, too, when that becomes true.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        *,
        cancel: Cancel | None = None,
        on_wait: Callable[[str, float], None] | None = None,
    ) -> None:
        """`on_wait` is told the host and the seconds when a busy registry makes us wait for more than a moment."""
        self._settings = settings
        self._on_wait = on_wait
        self._cancel = cancel
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}
        self._handles: dict[http.client.HTTPConnection, socket.socket] = {}
        self._closed = Event()
        self._schemes: dict[str, str] = {}
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._lock = Lock()

    def __enter__(self) -> Transport:
        Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK):
            if self._cancel is not None and self._cancel():
                self._interrupt()

    def close(self) -> None:
        """Close every connection; a thread that still waits for one wakes up with an error."""
        self._closed.set()
        with self._lock:
            idle = [one for connections in self._idle.values() for one in connections]
            self._idle.clear()
        for connection in idle:
            self._drop(connection)
        self._interrupt()

    def _interrupt(self) -> None:
        with self._lock:
            for handle in self._handles.values():
                with suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)

    def scheme(self, host: str, *, plain: bool) -> str:
        """``https``, or ``http`` for a host that may and does speak it (loopback, or configured insecure)."""
        if not plain and not is_loopback(host):
            return "https"
        with self._lock:
            known = self._schemes.get(host)
        if known is None:
            known = self._probe_scheme(host, plain)
            with self._lock:
                self._schemes[host] = known
        return known

    def _probe_scheme(self, host: str, plain: bool) -> str:
        """Offer TLS once; a server that answers with something else speaks plain HTTP."""
        name, port = split_port(host)
        if find_proxy("http", host):
            return "http"  # the host cannot be asked directly, and plain HTTP was allowed for it
        if port is None and not plain:
            port = 443 if _listens(name, 443) else 80
        probe = http.client.HTTPConnection(name, port or 443)
        try:
            with self._open_socket(probe, (name, port or 443), CONNECT_TIMEOUT) as raw:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with context.wrap_socket(raw, server_hostname=name):
                    return "https"
        except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
            check_cancel(self._cancel)
            return "http"
        except OSError as error:
            if port is None:
                return "http"
            raise explain_failure(error, host, f"https://{host}") from error
        finally:
            self._drop(probe)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        plain: bool = False,
        redirects: int = 5,
        attempts: int = ATTEMPTS,
    ) -> Response:
        """Send a request, retried with back-off while the other side is busy or the connection breaks.

        Statuses other than 429 and 5xx are for the caller. Raises RegistryUnreachable, TlsFailure, RateLimited,
        RegistryFault, TransferCancelled.
        """
        sent = {"User-Agent": _AGENT, **(headers or {})}
        for attempt in range(attempts):
            check_cancel(self._cancel)
            try:
                response = self._send(method, url, sent, body, plain)
            except _BROKEN as error:
                if attempt == attempts - 1 or not is_passing(error):
                    raise explain_failure(error, urlsplit(url).netloc, url) from error
                self.wait(compute_delay(attempt))
                continue
            if response.status == 407:
                response.close()
                raise RegistryUnreachable(
                    f"the proxy for {urlsplit(url).netloc} wants a login",
                    resource=url,
                    operation="connect",
                    hint="put it into the proxy's variable: http_proxy=http://user:password@host:port",
                )
            if response.status in _BUSY:
                self._wait_while_busy(response, attempt, last=attempt == attempts - 1)
                continue
            if response.status in _REDIRECTS and response.header("Location") and method in ("GET", "HEAD"):
                target = urljoin(url, response.header("Location"))
                response.close()
                if redirects == 0:
                    raise RegistryFault(f"{url} redirects too often", resource=url, operation=method)
                if urlsplit(target).scheme not in ("http", "https"):
                    raise RegistryFault(f"{url} redirects to {target}", resource=url, operation=method)
                if urlsplit(target)[:2] != urlsplit(url)[:2]:
                    sent.pop("Authorization", None)  # a storage backend must not learn it, nor anyone on the way
                return self.request(method, target, headers=sent, body=body, plain=plain, redirects=redirects - 1)
            return response
        raise AssertionError("unreachable")

    def wait(self, seconds: float) -> None:
        """Sleep, but wake up to be cancelled."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            check_cancel(self._cancel)
            time.sleep(min(left, 0.1))

    def _wait_while_busy(self, response: Response, attempt: int, *, last: bool) -> None:
        status, asked = response.status, parse_retry_after(response.header("Retry-After"), time.time())
        text = response.read(1 << 16).decode("utf-8", "replace")
        delay = compute_delay(attempt) if asked is None else asked
        host = urlsplit(response.url).netloc
        if status == 429 and (last or delay > LONGEST_WAIT):
            when = f"in {round(delay)} seconds" if asked is not None else "later"
            raise RateLimited(
                f"the registry {host} limits the rate of requests",
                resource=host,
                operation="request",
                hint=f"try again {when}; logging in often raises the limit, a mirror avoids it",
            )
        if last or delay > LONGEST_WAIT:
            raise RegistryFault(
                f"the registry {host} answers {status} {http.client.responses.get(status, '')}".rstrip()
                + (f": {text.strip()[:200]}" if text.strip() else ""),
                resource=response.url,
                operation="request",
                hint="the fault is on the registry's side; try again later",
            )
        if self._on_wait is not None and delay >= _MOMENT:
            self._on_wait(host, delay)
        self.wait(delay)

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body, plain: bool) -> Response:
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection, reused = self._take(key, plain)
        if parts.scheme == "http" and (proxy := find_proxy(*key)):
            target, headers = url, {**headers, **proxy.headers}
        try:
            try:
                answer = _exchange(connection, method, target, headers, body)
            except (http.client.RemoteDisconnected, ConnectionError):
                if not reused:
                    raise
                self._drop(connection)  # the server closed an idle connection: no fault of this request
                connection = self._connect(key, plain)
                answer = _exchange(connection, method, target, headers, body)
        except BaseException:
            self._drop(connection)
            raise

        def release(clean: bool) -> None:
            if not clean or answer.will_close:
                self._drop(connection)
                return
            with self._lock:
                self._idle.setdefault(key, []).append(connection)

        return Response(answer.status, answer.headers, url, answer, release)  # type: ignore[arg-type]

    def _take(self, key: tuple[str, str], plain: bool) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            idle = self._idle.get(key)
            if idle:
                return idle.pop(), True
        return self._connect(key, plain), False

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            handle = self._handles.pop(connection, None)
        connection.close()
        if handle is not None:
            handle.close()

    def _connect(self, key: tuple[str, str], plain: bool) -> http.client.HTTPConnection:
        scheme, host = key
        proxy = find_proxy(scheme, host)
        try:
            connection = self._dial(scheme, host, proxy, plain)
        except OSError as error:
            if proxy is not None and (explained := explain_proxy(error, proxy, host)) is not None:
                raise explained from error
            raise
        if connection.sock is not None:
            connection.sock.settimeout(READ_TIMEOUT)
            with suppress(OSError):
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _dial(self, scheme: str, host: str, proxy: Proxy | None, plain: bool) -> http.client.HTTPConnection:
        name, port = split_port(host)
        connection: http.client.HTTPConnection
        if scheme == "https":
            context = self._context(host, plain)
            if proxy:
                connection = http.client.HTTPSConnection(
                    proxy.name, proxy.port, timeout=CONNECT_TIMEOUT, context=context
                )
                connection.set_tunnel(name, port or 443, headers=dict(proxy.headers))
            else:
                connection = http.client.HTTPSConnection(name, port or 443, timeout=CONNECT_TIMEOUT, context=context)
        else:
            where = (proxy.name, proxy.port) if proxy else (name, port or 80)
            connection = http.client.HTTPConnection(*where, timeout=CONNECT_TIMEOUT, blocksize=1 << 17)
        connection._create_connection = functools.partial(self._open_socket, connection)  # type: ignore[attr-defined]
        try:
            connection.connect()
        except BaseException:
            self._drop(connection)
            raise
        return connection

    def _open_socket(
        self, connection: http.client.HTTPConnection, place: tuple[str, int], timeout: float, _source: object = None
    ) -> socket.socket:
        """socket.create_connection, but from the first moment there is a handle that can interrupt it."""
        failure: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(*place, 0, socket.SOCK_STREAM):
            check_cancel(self._cancel)
            opened = socket.socket(family, kind, protocol)
            opened.settimeout(timeout)
            with self._lock:
                before = self._handles.pop(connection, None)
                self._handles[connection] = opened.dup()
            if before is not None:
                before.close()
            try:
                opened.connect(address)
            except OSError as error:
                opened.close()
                failure = error
            else:
                return opened
        raise failure or OSError("the name has no address")

    def _context(self, host: str, plain: bool) -> ssl.SSLContext:
        with self._lock:
            if (host, plain) not in self._contexts:
                self._contexts[host, plain] = make_tls_context(host, self._settings.certificates, verify=not plain)
            return self._contexts[host, plain]


def make_tls_context(host: str, folders: Iterable[Path], *, verify: bool) -> ssl.SSLContext:
    """The system's authorities, plus those (and the client certificate) of ``certs.d/<host>``."""
    context = ssl.create_default_context()
    # Python 3.13 began to refuse authorities without a key usage extension. Home-made authorities are often like that,
    # other clients take them, and what can be pulled must not depend on the interpreter.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for folder in folders:
        place = folder / host
        if not place.is_dir():
            continue
        try:
            for authority in sorted(place.glob("*.crt")):
                context.load_verify_locations(cafile=authority)
            for certificate in sorted(place.glob("*.cert")):
                context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise TlsFailure(f"the certificates in {place} cannot be read: {error}", resource=host) from error
    return context


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: Body
) -> http.client.HTTPResponse:
    data = body() if callable(body) else body
    chunked = callable(body) and "Content-Length" not in headers
    if chunked:
        headers = {**headers, "Transfer-Encoding": "chunked"}
    connection.request(method, target, body=data, headers=dict(headers), encode_chunked=chunked)
    return connection.getresponse()


def _listens(name: str, port: int) -> bool:
    try:
        with socket.create_connection((name, port), 1.0):
            return True
    except OSError:
        return False


def compute_delay(attempt: int) -> float:
    """Seconds before the next attempt: 0.2, 0.4, 0.8 ... up to 10, spread so that clients do not come in step."""
    return min(10.0, 0.2 * 2.0**attempt) * random.uniform(0.75, 1.25)


def parse_retry_after(text: str, now: float) -> float | None:
    """A Retry-After header in seconds from `now` (RFC 9110: seconds or a date)."""
    if text.strip().isdigit():
        return float(text)
    if not text:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None

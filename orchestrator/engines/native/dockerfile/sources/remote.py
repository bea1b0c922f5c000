"""Files from the web: fetched once, asked for again with what the server said of them (ETag, Last-Modified)."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from orchestrator.addresses import hide_password
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.errors import EngineError
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite
    from orchestrator.engines.native.images.transport import Response, Transport
    from orchestrator.source import Location

_PIECE = 1 << 18
_ATTEMPTS = 4
_KEPT = 30 * 86400.0  # seconds without use


class Download(Record):
    """A file that was fetched. `digest` is of its content; `name` is the last part of the URL's path, or empty."""

    path: Path
    digest: str
    name: str
    mtime_ns: int


def is_url(text: str) -> bool:
    """Whether it names something on the web."""
    return text[:8].lower().startswith(("http://", "https://"))


def name_of_url(url: str) -> str:
    """The file name in a URL; empty where it has none."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return "" if name in (".", "..") or "/" in name or "\0" in name else name


def download(url: str, site: BuildSite, *, checksum: str | None = None, location: Location | None = None) -> Download:
    """Fetch `url` into the cache, or find that it is still there.

    With a `checksum` (an OCI digest) that is in the cache nothing is asked. Raises BuildError.
    """
    folder = site.cache / "http"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    note = folder / f"{_hash(url)}.json"
    known = _read_note(note, folder)
    if checksum is not None:
        _check_digest(checksum, location)
        if known is not None and known["checksums"].get(checksum.partition(":")[0]) == checksum:
            return _finish(url, folder, known)
    from orchestrator.engines.native.dockerfile.sources.web import open_transport

    transport = open_transport(site)
    try:
        answer = _ask(transport, url, known, location)
        try:
            if answer.status == 304 and known is not None:
                fresh = known
            else:
                with site.tell(f"downloading {hide_password(url)}"):
                    fresh = _receive(answer, url, folder, site, checksum, location)
        finally:
            answer.close()
    finally:
        transport.close()
    if checksum is not None and checksum not in fresh["checksums"].values():
        fresh = _verify(url, folder, fresh, checksum, location)
    if fresh is not known:
        from orchestrator.engines.native.images.content import write_file

        write_file(note, json.dumps(fresh).encode(), durable=False)
        forget_downloads(folder, time.time() - _KEPT)
    return _finish(url, folder, fresh)


def forget_downloads(folder: Path, before: float) -> None:
    """Remove what was not used since `before` (seconds since the epoch)."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_atime < before and path.stat().st_ctime < before:
                path.unlink()


def _hash(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()


def _read_note(note: Path, folder: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(note.read_bytes())
        size = os.stat(folder / known["blob"]).st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if size != known.get("size"):
        return None
    with suppress(OSError):
        os.utime(note)
        os.utime(folder / known["blob"])
    return known  # type: ignore[no-any-return]


def _finish(url: str, folder: Path, note: dict[str, Any]) -> Download:
    return Download(
        path=folder / note["blob"],
        digest=note["checksums"]["sha256"],
        name=name_of_url(url),
        mtime_ns=int(note["mtime"]) * 10**9,
    )


def _ask(transport: Transport, url: str, known: dict[str, Any] | None, location: Location | None) -> Response:
    headers = {"User-Agent": "stack/0.1", "Accept": "*/*"}
    login, at, _ = urlsplit(url).netloc.rpartition("@")
    target = url
    if at:
        import base64

        target = url.replace(f"{login}@", "", 1)
        headers["Authorization"] = "Basic " + base64.b64encode(unquote(login).encode()).decode()
    if known is not None:
        if known["etag"]:
            headers["If-None-Match"] = known["etag"]
        elif known["modified"]:
            headers["If-Modified-Since"] = known["modified"]
        # Without either the server cannot tell: the file is fetched again and compared by its content.
    try:
        answer = transport.request("GET", target, headers=headers, attempts=_ATTEMPTS)
    except EngineError as error:
        raise _reword(error, url, location) from error
    if answer.status == 304 or 200 <= answer.status < 300:
        return answer
    import http.client

    reason = http.client.responses.get(answer.status, "")
    status = answer.status
    answer.close()
    raise BuildError(
        f"{hide_password(url)} cannot be fetched: the server answers {status} {reason}".rstrip(),
        location=location,
        code="download-failed",
        hint={404: "check the address", 401: "it needs a login", 403: "it needs a login"}.get(status, ""),
    )


def _reword(error: EngineError, url: str, location: Location | None) -> EngineError:
    from orchestrator.engines.native.images.failures import TransferCancelled

    if isinstance(error, TransferCancelled):
        return error
    message = error.message.replace("the registry ", "").replace("of the registry", "of")
    return BuildError(
        f"{hide_password(url)} cannot be fetched: {message}",
        location=location,
        code="download-failed",
        hint="" if "registr" in error.hint else error.hint,
    )


def _receive(
    answer: Response, url: str, folder: Path, site: BuildSite, checksum: str | None, location: Location | None
) -> dict[str, Any]:
    """The body into a file named by its digest."""
    import hashlib

    from orchestrator.engines.native.images.connecting import explain_failure
    from orchestrator.engines.native.images.content import disk_error
    from orchestrator.engines.native.images.transport import BROKEN_TRANSFER

    digests = {"sha256": hashlib.sha256()}
    if checksum is not None:
        digests.setdefault(checksum.partition(":")[0], hashlib.new(checksum.partition(":")[0]))
    expected = answer.header("Content-Length")
    beside = folder / f".{os.getpid()}-{os.urandom(4).hex()}.new"
    size = 0
    try:
        with beside.open("wb") as file:
            while True:
                site.check_cancel()
                try:
                    piece = answer.read_piece(_PIECE)
                except BROKEN_TRANSFER as error:
                    raise _reword(explain_failure(error, urlsplit(url).netloc, url), url, location) from error
                if not piece:
                    break
                size += len(piece)
                for one in digests.values():
                    one.update(piece)
                file.write(piece)
        if expected.isdigit() and int(expected) != size:
            raise BuildError(
                f"{hide_password(url)} broke off after {size} of {expected} bytes",
                location=location,
                code="download-failed",
                hint="try again",
            )
        checksums = {name: f"{name}:{one.hexdigest()}" for name, one in digests.items()}
        os.rename(beside, folder / checksums["sha256"].partition(":")[2])
    except OSError as error:
        raise disk_error(error, folder) from error
    finally:
        beside.unlink(missing_ok=True)
    return {
        "url": hide_password(url),
        "blob": checksums["sha256"].partition(":")[2],
        "size": size,
        "checksums": checksums,
        "etag": answer.header("ETag"),
        "modified": answer.header("Last-Modified"),
        "mtime": _parse_time(answer.header("Last-Modified")),
    }


def _parse_time(text: str) -> int:
    """Seconds since the epoch; 0 for nothing sensible, so that a layer does not depend on when it was built."""
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(text).timestamp()) if text else 0
    except ValueError:
        return 0


def _check_digest(checksum: str, location: Location | None) -> None:
    from orchestrator.engines.native.images.reference import is_digest

    if not is_digest(checksum) or checksum.partition(":")[0] not in ("sha256", "sha384", "sha512"):
        raise BuildError(
            f"invalid --checksum {checksum!r}",
            location=location,
            code="invalid-checksum",
            hint="sha256:<64 hexadecimal digits>, sha384: or sha512:",
        )


def _verify(url: str, folder: Path, note: dict[str, Any], checksum: str, location: Location | None) -> dict[str, Any]:
    import hashlib

    algorithm = checksum.partition(":")[0]
    found = note["checksums"].get(algorithm)
    if found is None:
        with (folder / note["blob"]).open("rb") as file:
            found = f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
    if found != checksum:
        raise BuildError(
            f"digest mismatch for {hide_password(url)}: {found} (expected: {checksum})",
            location=location,
            code="checksum-mismatch",
            hint="the file has changed, or the checksum is of another one",
        )
    return {**note, "checksums": {**note["checksums"], algorithm: found}}

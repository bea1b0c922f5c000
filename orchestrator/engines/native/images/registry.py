"""The OCI distribution protocol (distribution-spec v1.1), reading side: manifests and blobs of one repository."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from orchestrator.engines.native.images.authorization import Authorizer
from orchestrator.engines.native.images.connecting import explain_failure, is_passing
from orchestrator.engines.native.images.content import Cancel, check_cancel, compute_digest
from orchestrator.engines.native.images.failures import ImageMissing, InvalidImage, RegistryFault
from orchestrator.engines.native.images.manifest import MANIFEST_LIMIT, MANIFEST_TYPES, Descriptor
from orchestrator.engines.native.images.reference import Reference, is_digest, render_familiar
from orchestrator.engines.native.images.transport import (
    ATTEMPTS,
    BROKEN_TRANSFER,
    Body,
    Response,
    Transport,
    compute_delay,
)

if TYPE_CHECKING:
    from orchestrator.engines.native.images.registries import Endpoint

_PIECE = 1 << 18
ERROR_LIMIT = 1 << 16
_FINAL = frozenset((405, 413, 415, 422, 507))  # not allowed, too large, of a wrong kind, no room


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as the registry gave it, verified."""

    data: bytes
    media_type: str
    digest: str


class Repository:
    """One repository at one endpoint, for any number of threads."""

    def __init__(
        self,
        transport: Transport,
        endpoint: Endpoint,
        *,
        actions: str = "pull",
        also_pull: Sequence[str] = (),
        cancel: Cancel | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._cancel = cancel
        self._authorizer = Authorizer(
            transport, endpoint.host, endpoint.path, actions, plain=endpoint.plain, also_pull=also_pull
        )
        self._base = ""

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        attempts: int = ATTEMPTS,
    ) -> Response:
        """A request below ``/v2/<repository>/`` (or to a URL or path the registry gave), authorized as it asks.

        Answers 401 twice in a row, or 403: raises Unauthorized.
        """
        base = f"{self._locate()}/"
        url = urljoin(base, path) if "://" in path or path.startswith("/") else base + path
        for _ in range(3):
            authorization = self._authorizer.header()
            response = self._transport.request(
                method,
                url,
                headers={**(headers or {}), **authorization},
                body=body,
                plain=self.endpoint.plain,
                attempts=attempts,
            )
            if response.status == 403:
                response.read(ERROR_LIMIT)
                raise self._authorizer.refuse()
            if response.status != 401:
                self._authorizer.note_accepted(authorization)
                return response
            challenge = response.header("WWW-Authenticate")
            response.read(ERROR_LIMIT)
            self._authorizer.answer(challenge, authorization)
        raise self._authorizer.refuse()

    def fetch_manifest(
        self, reference: Reference, held: Callable[[str], bytes | None] = lambda _digest: None, *, expect: bool = False
    ) -> Document:
        """The manifest or index of a tag or digest. Raises ImageMissing, Unauthorized, InvalidImage ...

        `held` gives the documents that are here already, by digest: those are not fetched again. With `expect` the
        registry is asked first which digest a tag has (HEAD), which public registries do not count as a pull.
        """
        wanted = reference.digest or reference.tag
        if (known := held(reference.digest) if reference.digest else None) is not None:
            return Document(known, "", reference.digest)
        if expect and not reference.digest:
            digest = self._ask_digest(wanted)
            if is_digest(digest) and (known := held(digest)) is not None:
                return Document(known, "", digest)
        response = self.send("GET", f"manifests/{wanted}", headers={"Accept": ", ".join(MANIFEST_TYPES)})
        data = response.read(MANIFEST_LIMIT if response.status == 200 else ERROR_LIMIT)
        if response.status == 404:
            raise self._missing(reference)
        if response.status != 200:
            raise self.explain(response, data)
        declared = response.header("Docker-Content-Digest")
        expected = reference.digest or (declared if is_digest(declared) else "")
        digest = compute_digest(data, expected.partition(":")[0] or "sha256")
        if expected and digest != expected:
            raise InvalidImage(
                f"digest mismatch: the manifest of {reference.familiar} should be {expected}, received {digest}",
                resource=str(reference),
                operation="verify",
            )
        return Document(data, response.header("Content-Type"), digest)

    def _ask_digest(self, tag: str) -> str:
        response = self.send("HEAD", f"manifests/{tag}", headers={"Accept": ", ".join(MANIFEST_TYPES)})
        response.read(ERROR_LIMIT)
        return response.header("Docker-Content-Digest") if response.status == 200 else ""

    def fetch_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob (a configuration), verified."""
        if descriptor.size > limit:
            raise InvalidImage(f"the blob {descriptor.digest} is too large ({descriptor.size} bytes)")
        return b"".join(self.iterate_blob(descriptor))

    def iterate_blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob as they arrive. A broken connection is resumed where it broke (Range).

        At the end the length and digest are verified: InvalidImage is raised after the last piece if they are wrong.
        """
        algorithm, _, expected = descriptor.digest.partition(":")
        digest, offset, failures = hashlib.new(algorithm), 0, 0
        while offset < descriptor.size or (descriptor.size == 0 and failures == 0 and offset == 0):
            before = offset
            try:
                for piece in self._iterate_from(descriptor, offset):
                    offset += len(piece)
                    if offset > descriptor.size:
                        raise self._mismatch(descriptor, f"more than {descriptor.size} bytes")
                    digest.update(piece)
                    yield piece
                if offset >= descriptor.size:
                    break
                raise ConnectionResetError("the transfer ended early")
            except BROKEN_TRANSFER as error:
                failures = 1 if offset > before else failures + 1
                if failures >= ATTEMPTS or not is_passing(error):
                    raise explain_failure(error, self.endpoint.host, self._base) from error
                self._transport.wait(compute_delay(failures - 1))
        if digest.hexdigest() != expected:
            raise self._mismatch(descriptor, f"{algorithm}:{digest.hexdigest()}")

    def _iterate_from(self, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        response = self.send("GET", f"blobs/{descriptor.digest}", headers=headers)
        try:
            if response.status == 404 and descriptor.urls:
                response.read(ERROR_LIMIT)
                response = self._open_elsewhere(descriptor, headers)
            if response.status == 404:
                raise ImageMissing(
                    f"the registry {self.endpoint.host} lacks a part of the image: {descriptor.digest}",
                    resource=descriptor.digest,
                    operation="pull",
                    hint="push the image again",
                )
            if response.status not in (200, 206):
                raise self.explain(response, response.read(ERROR_LIMIT))
            skip = offset if response.status == 200 else 0  # the server ignored the range
            if response.status == 206 and not response.header("Content-Range").startswith(f"bytes {offset}-"):
                raise RegistryFault(f"{self.endpoint.host} answers with another range than asked for")
            whole = parse_length(response)
            if whole is not None and whole != descriptor.size:
                raise self._mismatch(descriptor, f"{whole} bytes instead of {descriptor.size}")
            while piece := response.read_piece(_PIECE):
                check_cancel(self._cancel)
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                yield piece[skip:] if skip else piece
                skip = 0
        finally:
            response.close()

    def _open_elsewhere(self, descriptor: Descriptor, headers: Mapping[str, str]) -> Response:
        """A layer that must not be stored in registries stands where its descriptor says."""
        for url in descriptor.urls:
            if url.startswith(("https://", "http://")):
                response = self._transport.request("GET", url, headers=headers)
                if response.status in (200, 206):
                    return response
                response.close()
        raise ImageMissing(
            f"a part of the image is at none of the places that it names: {', '.join(descriptor.urls)}",
            resource=descriptor.digest,
            operation="pull",
        )

    def _locate(self) -> str:
        if not self._base:
            host = self.endpoint.host
            scheme = self._transport.scheme(host, plain=self.endpoint.plain)
            self._base = f"{scheme}://{host}/v2/{self.endpoint.path}"
        return self._base

    def _missing(self, reference: Reference) -> ImageMissing:
        return ImageMissing(
            f"the registry {self.endpoint.host} has no {render_familiar(str(reference))}",
            resource=str(reference),
            operation="pull",
            hint="check the name and the tag" if reference.tag else "check the name and the digest",
        )

    def _mismatch(self, descriptor: Descriptor, received: str) -> InvalidImage:
        return InvalidImage(
            f"digest mismatch: {self.endpoint.host} should have sent {descriptor.digest}, but sent {received}",
            resource=descriptor.digest,
            operation="verify",
            hint="the registry or something between is broken; pull again",
        )

    def explain(self, response: Response, data: bytes) -> RegistryFault:
        """The error for an answer that makes no sense here."""
        fault = RegistryFault(
            f"the registry {self.endpoint.host} answers {response.status}: {parse_errors(data)}",
            resource=response.url,
            operation="request",
        )
        fault.final = response.status in _FINAL
        return fault


def parse_length(response: Response) -> int | None:
    """The length of the whole content by the headers of an answer, complete or partial; None if they do not say."""
    text = response.header("Content-Length") if response.status == 200 else ""
    if response.status == 206:
        text = response.header("Content-Range").rpartition("/")[2]
    return int(text) if text.isdigit() else None


def parse_errors(data: bytes) -> str:
    """The messages of the distribution's error document, or the beginning of whatever was sent."""
    import json

    try:
        errors = json.loads(data)["errors"]
        return "; ".join(f"{one.get('code', '')} {one.get('message', '')}".strip() for one in errors) or "no reason"
    except (ValueError, KeyError, TypeError, AttributeError):
        return data.decode("utf-8", "replace").strip()[:200] or "no reason given"

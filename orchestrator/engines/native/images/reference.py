"""Image references: ``[host[:port]/]path[:tag][@digest]``, with Docker's defaults. Pure, and cheap to import."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.engines.native.images.failures import InvalidReference

DEFAULT_HOST = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HEX = frozenset("0123456789abcdef")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_DIGEST_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference(NamedTuple):
    """A complete reference. `tag` is empty only when a `digest` is given without one."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Host and repository, without tag and digest."""
        return f"{self.host}/{self.path}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.path}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """The short form that people type: without ``docker.io/`` and ``library/``."""
        return render_familiar(str(self))

    @property
    def pinned(self) -> str:
        """The complete form that counts: with a digest, the tag says nothing more."""
        return str(self.with_digest(self.digest) if self.digest else self)

    def with_digest(self, digest: str) -> Reference:
        """The same repository, pinned to `digest`, without a tag."""
        return self._replace(tag="", digest=digest)


def render_familiar(reference: str) -> str:
    """Shorten a canonical reference for the screen."""
    if reference.startswith("docker.io/"):
        short = reference[len("docker.io/") :]
        if short.startswith("library/") and "/" not in short[len("library/") :]:
            return short[len("library/") :]
        return short
    return reference


def parse_reference(text: str) -> Reference:
    """Parse and complete a reference (``web`` is ``docker.io/library/web:latest``).

    Raises InvalidReference with the reason.
    """
    rest, at, digest = text.partition("@")
    if at:
        _check_digest(text, digest)
    host, path = _split_host(rest)
    tag = ""
    colon = path.rfind(":")
    if colon > path.rfind("/"):
        path, tag = path[:colon], path[colon + 1 :]
        _check_tag(text, tag)
    _check_path(text, path)
    if host in ("", "index.docker.io", "registry-1.docker.io"):
        host = DEFAULT_HOST
    _check_host(text, host)
    if host == DEFAULT_HOST and "/" not in path:
        path = f"{DEFAULT_NAMESPACE}/{path}"
    if path == f"{DEFAULT_NAMESPACE}/sha256" and host == DEFAULT_HOST and tag:
        raise InvalidReference(f"{text!r} is an identifier, and cannot be a name", hint="for example web:1")
    if len(host) + len(path) + 1 > 255:
        raise InvalidReference(f"the image name {text!r} is longer than 255 characters")
    return Reference(host, path, tag or ("" if digest else DEFAULT_TAG), digest)


def is_digest(text: str) -> bool:
    """Whether `text` is a complete ``algorithm:hex`` digest."""
    algorithm, _, value = text.partition(":")
    return len(value) == _DIGEST_LENGTH.get(algorithm, -1) and _HEX.issuperset(value)


def is_hex(text: str) -> bool:
    """Whether `text` can be (part of) an image identifier."""
    return bool(text) and _HEX.issuperset(text)


def _split_host(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    # Docker's rule: the first part is a host when it has a dot, a port or capitals, or is localhost.
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return first, rest
    return "", text


def _check_digest(text: str, digest: str) -> None:
    if not is_digest(digest):
        raise InvalidReference(
            f"invalid digest in the image reference {text!r}",
            hint="a digest is sha256: followed by 64 hexadecimal digits",
        )


def _check_tag(text: str, tag: str) -> None:
    if not tag or len(tag) > 128 or tag[0] not in _WORD or not all(c in _WORD or c in ".-" for c in tag):
        raise InvalidReference(
            f"invalid tag {tag!r} in the image reference {text!r}",
            hint="a tag has up to 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'",
        )


def _check_path(text: str, path: str) -> None:
    if not path:
        raise InvalidReference(f"the image reference {text!r} has no name")
    for part in path.split("/"):
        if _is_component(part):
            continue
        if part.lower() != part and _is_component(part.lower()):
            raise InvalidReference(
                f"the image name {text!r} has capital letters", hint=f"did you mean {text.lower()!r}?"
            )
        raise InvalidReference(
            f"invalid image reference {text!r}",
            hint="a name has lower-case letters and digits, separated by '.', '_', '__' or '-'",
        )


def _is_component(part: str) -> bool:
    if not part or part[0] not in _LOWER or part[-1] not in _LOWER:
        return False
    separator = ""
    for char in part:
        if char in _LOWER:
            if separator and separator not in (".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        elif char in "._-":
            separator += char
        else:
            return False
    return True


def _check_host(text: str, host: str) -> None:
    bare, port = host, ""
    if host.startswith("["):
        bare, bracket, port = host.partition("]")
        valid = bool(bracket) and set(bare[1:].lower()) <= _HEX | {":"} and (not port or port[0] == ":")
        port = port[1:]
    else:
        bare, colon, port = host.partition(":")
        valid = all(
            label and set(label.lower()) <= _LOWER | {"-"} and label[0] != "-" and label[-1] != "-"
            for label in bare.split(".")
        ) and not (colon and not port)
    if not valid or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise InvalidReference(f"invalid registry host {host!r} in the image reference {text!r}")

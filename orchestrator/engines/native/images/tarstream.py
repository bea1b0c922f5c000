"""Watch a layer's tar stream on its way to tar(1): refuse evil entries, take whiteouts out, note what it takes to
write the very same tar again from the unpacked files.

Only 512-byte headers are looked at; file contents pass through untouched (POSIX.1-2001 pax, ustar, GNU).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from orchestrator.engines.native.images.failures import InvalidImage, UnsafeLayer

BLOCK = 512
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
AUFS_META = ".wh..wh."
_ZERO = bytes(BLOCK)
_META_LIMIT = 4 << 20  # bytes of one pax or GNU long-name header; real ones are far below
_META_TYPES = frozenset(b"xgLKXS")
_LINK, _SYMLINK, _CHAR, _BLOCK_DEVICE, _DIRECTORY, _FIFO = b"123456"
_FILE_TYPES = frozenset((ord("0"), 0, ord("7"), ord("S")))


class Head(NamedTuple):
    """One entry: its headers end at `end`, and `size` bytes of payload follow, padded to a block."""

    name: str
    link: str
    kind: int
    size: int
    sparse: bool
    end: int


@dataclass(slots=True)
class TarReport:
    """What the stream held. Paths are relative, without a leading or trailing slash; the root is the empty path."""

    size: int = 0
    entries: int = 0
    whiteouts: list[str] = field(default_factory=list)
    opaques: list[str] = field(default_factory=list)
    implicit: list[str] = field(default_factory=list)
    foreign_links: list[tuple[str, str]] = field(default_factory=list)
    reproducible: bool = True


RESTART: Final = memoryview(b"")
"""Among the buffers of `TarScanner.feed`: what follows is for another tar(1). That one makes links that lead out at its
very end, over whatever has come to stand under their name since."""


class TarScanner:
    """Feed it the stream in any chunks; it gives back what may go on to tar.

    `on_raw(bytes)` and `on_file(path, size)` receive, in order, every byte that is not a file's content, and the files;
    with them the tar can be written again.
    """

    def __init__(
        self,
        *,
        on_raw: Callable[[bytes], None] | None = None,
        on_file: Callable[[str, int], None] | None = None,
        skip_devices: bool = False,
    ) -> None:
        self.report = TarReport()
        self.ended = False
        self._on_raw = on_raw
        self._on_file = on_file
        self._skip_devices = skip_devices
        self._carry = b""
        self._payload = 0  # content bytes still to come
        self._padding = 0  # and their padding
        self._drop = False
        self._raw_payload = False
        self._global: dict[str, str] = {}
        self._directories: set[str] = {""}
        self._implicit: dict[str, None] = {}
        self._files: dict[str, bool] = {}  # non-directories; True when the content stands in the tar
        self._symlinks: dict[str, str] = {}
        self._restart = False

    def feed(self, data: bytes) -> list[bytes | memoryview]:
        """Take a chunk; return the buffers to write to tar. Raises UnsafeLayer and InvalidImage."""
        if self._carry:
            data, self._carry = self._carry + data, b""
        view = memoryview(data)
        length, position, start = len(data), 0, 0
        forward: list[bytes | memoryview] = []
        while True:
            if self._payload or self._padding:
                position = self._pass_payload(view, position)
                if self._drop and not (self._payload or self._padding):
                    self._drop, start = False, position
            if position >= length:
                break
            if self.ended:
                self._emit_raw(bytes(view[position:]))
                position = length
                break
            head = self._read_head(data, position)
            if head is None:
                self._carry = data[position:]
                break
            if head.kind == -1:  # an end-of-archive block
                self._emit_raw(_ZERO)
                position += BLOCK
                continue
            keep = self._check_entry(head)
            if self._restart:
                self._restart = False
                forward += (view[start:position], RESTART)
                start = position
            self._emit_raw(bytes(view[position : head.end]))
            if not keep:
                forward.append(view[start:position])
                start = head.end
                self._drop = True
            self._begin_payload(head, keep)
            position = head.end
            if self._drop and not self._payload:
                self._drop = False
        if not self._drop:
            forward.append(view[start:position])
        return [one for one in forward if len(one) or one is RESTART]

    def finish(self) -> TarReport:
        """Call at the end of the stream. Raises InvalidImage if it stops in the middle of an entry."""
        if self._payload or self._carry.strip(b"\0"):
            raise InvalidImage("the layer's tar is truncated", operation="unpack")
        if self._carry:
            self._emit_raw(self._carry)
        self.report.implicit = list(self._implicit)
        return self.report

    def _emit_raw(self, data: bytes) -> None:
        if self._on_raw is not None and data:
            self._on_raw(data)

    def _begin_payload(self, head: Head, keep: bool) -> None:
        self._payload, self._padding = head.size, -head.size % BLOCK
        self._raw_payload = head.size > 0 and (head.sparse or not keep or head.kind not in _FILE_TYPES)
        if head.size and not self._raw_payload:
            self.report.size += head.size
            if self._on_file is not None:
                self._on_file(head.name, head.size)

    def _pass_payload(self, view: memoryview, position: int) -> int:
        step = min(self._payload, len(view) - position)
        if step and self._raw_payload:
            self._emit_raw(bytes(view[position : position + step]))
        self._payload -= step
        position += step
        if not self._payload and self._padding:
            step = min(self._padding, len(view) - position)
            if step:
                self._emit_raw(bytes(view[position : position + step]))
            self._padding -= step
            position += step
        return position

    def _read_head(self, data: bytes, position: int) -> Head | None:
        """Read the headers of one entry, meta headers included; None if `data` does not hold all of them."""
        attributes = self._global
        long_name = long_link = None
        while True:
            block = data[position : position + BLOCK]
            if len(block) < BLOCK:
                return None
            if block == _ZERO:
                return self._read_end(data, position)
            kind, size = block[156], parse_number(block[124:136])
            position += BLOCK
            if kind not in _META_TYPES or kind == 83:  # "S": GNU sparse, a main header
                break
            if size > _META_LIMIT:
                raise UnsafeLayer(f"the layer has a tar header of {size} bytes", operation="unpack")
            body = data[position : position + size]
            position += size + -size % BLOCK
            if len(data) < position:
                return None
            if kind in (120, 88):  # x, X
                attributes = attributes | parse_pax(body)
            elif kind == 103:  # g
                self._global = attributes = self._global | parse_pax(body)
            elif kind == 76:  # L
                long_name = body.rstrip(b"\0").decode("utf-8", "surrogateescape")
            else:
                long_link = body.rstrip(b"\0").decode("utf-8", "surrogateescape")
        sparse = kind == 83 or (bool(attributes) and any(key.startswith("GNU.sparse.") for key in attributes))
        if kind == 83 and block[482]:  # old GNU sparse maps go on in extension blocks
            while True:
                extension = data[position : position + BLOCK]
                if len(extension) < BLOCK:
                    return None
                position += BLOCK
                if not extension[504]:
                    break
        name = attributes.get("GNU.sparse.name") or attributes.get("path") or long_name
        if name is None:
            name = _text(block[0:100])
            if block[257:263] == b"ustar\0" and block[345]:
                name = f"{_text(block[345:500])}/{name}"
        link = attributes.get("linkpath") or long_link
        if link is None:
            link = _text(block[157:257])
        if "size" in attributes:
            size = parse_decimal(attributes["size"])
        if kind in (_LINK, _SYMLINK, _CHAR, _BLOCK_DEVICE, _DIRECTORY, _FIFO):
            size = 0
        elif kind in _FILE_TYPES and name.endswith("/"):
            kind = _DIRECTORY  # the convention of old archives, which tar follows too
        return Head(normalize_path(name), link, kind, size, sparse, position)

    def _read_end(self, data: bytes, position: int) -> Head | None:
        following = data[position + BLOCK : position + 2 * BLOCK]
        if len(following) < BLOCK:
            return None
        if following != _ZERO:  # tar would stop here and drop the rest in silence
            raise InvalidImage("the layer's tar has a stray zero block", operation="unpack")
        self.ended = True
        return Head("", "", -1, 0, False, position + BLOCK)

    def _check_entry(self, head: Head) -> bool:
        """Whether tar is to see the entry. Raises UnsafeLayer."""
        report, name = self.report, head.name
        report.entries += 1
        parent, _, base = name.rpartition("/")
        if ".wh." in name:
            if AUFS_META in name and base != OPAQUE:
                return False
            if any(part.startswith(WHITEOUT) for part in parent.split("/")):
                raise UnsafeLayer(f"the layer has an entry below a whiteout: {name!r}", operation="unpack")
            if base.startswith(WHITEOUT):
                self._note_whiteout(parent, base)
                return False
        if parent not in self._directories:
            self._add_parents(name, parent)
        if head.kind == _DIRECTORY:
            self._forget(name)
            self._directories.add(name)
            self._implicit.pop(name, None)
            return True
        if not name:
            raise UnsafeLayer("the layer replaces the root directory", operation="unpack")
        if head.kind in (_CHAR, _BLOCK_DEVICE) and self._skip_devices:
            return False
        if head.kind == _LINK:
            target = normalize_path(head.link)
            if target not in self._files:
                report.foreign_links.append((name, target))
                return False
            self._forget(name)
            self._files[name] = False
            return True
        self._forget(name)
        self._files[name] = head.size > 0 and not head.sparse and head.kind in _FILE_TYPES
        if head.kind == _SYMLINK:
            self._symlinks[name] = head.link
        return True

    def _note_whiteout(self, parent: str, base: str) -> None:
        if parent not in self._directories:
            self._add_parents(f"{parent}/{base}", parent)
        if base == OPAQUE:
            self.report.opaques.append(parent)
            return
        victim = base[len(WHITEOUT) :]
        if victim in ("", ".", ".."):
            raise UnsafeLayer(f"the layer has an invalid whiteout: {parent}/{base}", operation="unpack")
        self.report.whiteouts.append(f"{parent}/{victim}" if parent else victim)

    def _forget(self, name: str) -> None:
        """An entry comes a second time: the later one wins, and the tar can no longer be made from the files."""
        if self._files.pop(name, False):
            self.report.reproducible = False
        target = self._symlinks.pop(name, None)
        if target is not None and _leads_out(target):
            self._restart = True

    def _add_parents(self, name: str, parent: str) -> None:
        """Note directories that the tar implies, and refuse a way that leads through a hostile symbolic link."""
        parts = parent.split("/")
        for count in range(1, len(parts) + 1):
            prefix = "/".join(parts[:count])
            if prefix in self._symlinks:
                target = self._symlinks[prefix]
                if _leads_out(target):
                    raise UnsafeLayer(
                        f"the layer writes {name!r} through the symbolic link {prefix} -> {target}",
                        operation="unpack",
                        hint="do not use this image unless you trust its author",
                    )
                return
            if prefix not in self._directories:
                self._directories.add(prefix)
                self._implicit[prefix] = None


def _leads_out(target: str) -> bool:
    """Whether a symbolic link may lead out of the layer."""
    return target.startswith("/") or ".." in target.split("/")


def normalize_path(name: str) -> str:
    """A clean relative path. Raises UnsafeLayer for ``..`` components."""
    if "//" not in name and "/." not in name and name[:1] not in ("/", "."):
        return name[:-1] if name.endswith("/") else name  # the common case, cheaply
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnsafeLayer(
            f"the layer has an entry outside of its root: {name!r}",
            operation="unpack",
            hint="do not use this image unless you trust its author",
        )
    return "/".join(parts)


def parse_number(field_: bytes) -> int:
    """A numeric tar field: octal text, or base-256 when the top bit is set. Raises InvalidImage."""
    if field_[0] & 0x80:
        if field_[0] & 0x40:
            raise InvalidImage("the layer's tar has a negative size", operation="unpack")
        return int.from_bytes(field_[1:], "big")
    try:
        return int(field_.strip(b" \0") or b"0", 8)
    except ValueError:
        raise InvalidImage("the layer is not a tar archive, or is corrupt", operation="unpack") from None


def parse_decimal(text: str) -> int:
    """A size of a pax header."""
    if not text.isascii() or not text.isdigit():
        raise InvalidImage(f"the layer's tar has an invalid size {text!r}", operation="unpack")
    return int(text)


def parse_pax(body: bytes) -> dict[str, str]:
    """The records of a pax header that decide names and sizes."""
    found: dict[str, str] = {}
    position = 0
    while position < len(body) and body[position]:
        space = body.find(b" ", position, position + 20)
        digits = body[position:space]
        length = int(digits) if space > 0 and digits.isdigit() else 0
        record = body[space + 1 : position + length - 1]
        key, equals, value = record.partition(b"=")
        if not length or not equals or position + length > len(body):
            raise InvalidImage("the layer's tar has a malformed pax header", operation="unpack")
        if key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse."):
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
        position += length
    return found


def _text(field_: bytes) -> str:
    return field_.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")

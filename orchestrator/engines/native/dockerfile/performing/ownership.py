"""``--chown`` and ``--chmod``: names looked up in the stage's own files, modes as chmod(1) takes them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.sources.failures import CopyError
from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.source import Location

_HIGHEST_ID = 0xFFFFFFFE
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_SHIFT = {"u": 6, "g": 3, "o": 0}


def is_numeric(chown: str) -> bool:
    """Whether no file of the stage is needed to understand it."""
    user, colon, group = chown.partition(":")
    return (user.isdigit() or not user) and (group.isdigit() or not group or not colon)


def resolve_owner(chown: str, rootfs: str, location: Location) -> tuple[int, int]:
    """``user[:group]``, names or numbers, as (uid, gid).

    Without a group it is the user's own, for a number the same number; an empty one behind the colon is 0.

    Raises CopyError for a name that the stage's /etc/passwd or /etc/group does not have.
    """
    user, colon, group = chown.partition(":")
    group = group or ("0" if colon else "")
    for part in (user, group):
        if part.isdigit() and int(part) > _HIGHEST_ID:
            raise CopyError(f"--chown={chown}: {part} is not a user or group id", location=location)
    from orchestrator.engines.native.runtime.users import resolve_identity

    try:
        if user.isdigit() and (group.isdigit() or not group):
            return int(user), int(group or user)
        if user and not user.isdigit():
            found = resolve_identity(rootfs, user, path="--chown")
            uid, gid = found.uid, found.gid
        else:
            uid = gid = int(user or 0)
        if group.isdigit():
            gid = int(group)
        elif group:
            gid = resolve_identity(rootfs, f"0:{group}", path="--chown").gid
    except NotFound as error:
        what = error.message.replace("the image has no", "the stage has no")
        raise CopyError(
            f"--chown={chown}: {what}",
            location=location,
            code="copy-unknown-user",
            hint="create the user in an earlier step, or give its number",
        ) from error
    return uid, gid


class ModeChange:
    """A mode that a copy gets: absolute, or changes to the one that the file has."""

    def __init__(self, text: str, location: Location | None = None) -> None:
        """Raises CopyError for text that is neither an octal number up to 7777 nor symbolic."""
        self._absolute: int | None = None
        self._clauses: list[tuple[str, list[tuple[str, str]]]] = []
        if text and all(char in "01234567" for char in text) and int(text, 8) <= 0o7777:
            self._absolute = int(text, 8)
            return
        if text[:1].isdigit():
            raise _refuse(text, location)
        for clause in text.split(","):
            self._clauses.append(_parse_clause(clause, text, location))

    @property
    def directory_mode(self) -> int:
        """The permissions of directories that have to be made on the way: a number is for them as well."""
        return 0o755 if self._absolute is None else self._absolute

    def apply(self, mode: int) -> int:
        """The permission bits for a file with `mode` (type and permissions)."""
        if self._absolute is not None:
            return self._absolute
        bits = stat.S_IMODE(mode)
        directory = stat.S_ISDIR(mode)
        for who, actions in self._clauses:
            for operator, what in actions:
                bits = _change(bits, who or "a", operator, what, directory)
        return bits


def _parse_clause(clause: str, text: str, location: Location | None) -> tuple[str, list[tuple[str, str]]]:
    who = ""
    while clause[:1] and clause[0] in "ugoa":
        who, clause = who + clause[0], clause[1:]
    actions: list[tuple[str, str]] = []
    while clause:
        operator, clause = clause[0], clause[1:]
        if operator not in "+-=":
            raise _refuse(text, location)
        what = ""
        while clause and clause[0] not in "+-=":
            what, clause = what + clause[0], clause[1:]
        if any(char not in "rwxXst" for char in what) and what not in ("u", "g", "o"):
            raise _refuse(text, location)
        actions.append((operator, what))
    if not actions:
        raise _refuse(text, location)
    return who, actions


def _change(bits: int, who: str, operator: str, what: str, directory: bool) -> int:
    mask = 0
    for one in who:
        mask |= _WHO[one]
    value = 0
    for char in what:
        if char in "ugo":
            value |= (bits >> _SHIFT[char] & 7) * 0o111
        elif char == "r":
            value |= 0o444
        elif char == "w":
            value |= 0o222
        elif char == "x" or (char == "X" and (directory or bits & 0o111)):
            value |= 0o111
        elif char == "s":
            value |= 0o6000
        elif char == "t":
            value |= stat.S_ISVTX
    value &= mask
    if operator == "+":
        return bits | value
    if operator == "-":
        return bits & ~value
    return bits & ~mask | value  # set-id bits too, even those of directories, which chmod(1) would leave alone


def _refuse(text: str, location: Location | None) -> CopyError:
    return CopyError(
        f"invalid mode {text!r} in --chmod",
        location=location,
        code="copy-invalid-mode",
        hint="an octal number up to 7777 (755), or a symbolic mode (u=rwX,go=rX)",
    )

"""Compiled system call filters: made once per host with libseccomp, kept below the cache directory, handed to crun.

A runtime that compiles the profile itself needs 8 to 25 ms for each container; reading the compiled filter costs
nothing. runc cannot take a compiled filter and gets the profile.
"""

from __future__ import annotations

import os
from _thread import get_ident
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from orchestrator.digest import hash_text
from orchestrator.errors import EngineError, Unavailable
from orchestrator.record import Record

if TYPE_CHECKING:
    import ctypes

_ACTIONS: Final[Mapping[str, int]] = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPERATORS: Final[Mapping[str, int]] = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_ATTRIBUTE_BAD_ARCHITECTURE: Final = 2
_ATTRIBUTE_OPTIMIZE: Final = 8
_EPERM: Final = 1


class Filter(Record):
    """What to put into a bundle: `profile` is ``linux.seccomp``, `bpf` the compiled form in base64 (None: no need)."""

    profile: Mapping[str, Any]
    bpf: str | None = None


def load_filter(
    cache: str,
    capabilities: Iterable[str],
    *,
    custom: Mapping[str, Any] | None = None,
    compiled: bool = True,
) -> Filter:
    """The filter for a process with `capabilities`: the default one, or `custom` in Docker's or the OCI's form.

    With `compiled` (crun) it comes from the cache directory, or is compiled and put there; without libseccomp on the
    machine the runtime gets the profile to compile. EngineError: `custom` is not a profile.
    """
    try:
        return _load(cache, capabilities, custom, compiled)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if custom is None:
            raise
        raise EngineError(
            f"the seccomp profile cannot be understood: {error!r}",
            operation="compile seccomp filter",
            hint="Docker's form or the OCI's: defaultAction, and syscalls with names and action",
        ) from error


def _load(cache: str, capabilities: Iterable[str], custom: Mapping[str, Any] | None, compiled: bool) -> Filter:
    machine = os.uname().machine
    held = frozenset(capabilities)
    if compiled and (custom is None or not _needs_notify(custom)):
        path = f"{cache}/seccomp-{_make_key(held, machine, custom)}"
        try:
            with open(path) as file:
                return Filter(profile=_PLACEHOLDER, bpf=file.read())
        except FileNotFoundError:
            pass
        profile = _render(held, machine, custom)
        text = _compile(profile)
        if text is not None:
            os.makedirs(cache, exist_ok=True)
            # Several containers that start at the same time may each find that it is not there yet.
            beside = f"{path}.{os.getpid()}-{get_ident()}"
            with open(beside, "w") as file:
                file.write(text)
            os.replace(beside, path)
            return Filter(profile=_PLACEHOLDER, bpf=text)
        return Filter(profile=profile)
    return Filter(profile=_render(held, machine, custom))


# crun looks for a compiled filter only where the configuration has a seccomp section.
_PLACEHOLDER: Final[Mapping[str, Any]] = {"defaultAction": "SCMP_ACT_ALLOW"}


def _needs_notify(profile: Mapping[str, Any]) -> bool:
    return any(rule.get("action") == "SCMP_ACT_NOTIFY" for rule in profile.get("syscalls") or ())


def _render(held: frozenset[str], machine: str, custom: Mapping[str, Any] | None) -> dict[str, Any]:
    from orchestrator.engines.native.runtime.seccomp_profile import flatten_profile, render_default_profile

    if custom is None:
        return render_default_profile(held, machine)
    major, minor = os.uname().release.split(".")[:2]
    return flatten_profile(custom, held, machine, (int(major), int("".join(c for c in minor if c.isdigit()) or 0)))


def _make_key(held: frozenset[str], machine: str, custom: Mapping[str, Any] | None) -> str:
    parts = [_REVISION, machine, os.uname().release, _library_version(machine), *sorted(held)]
    if custom is not None:
        import json

        parts.append(json.dumps(custom, sort_keys=True))
    return hash_text("\n".join(parts))[:32]


_REVISION: Final = "1"
"""The table's revision, written here again so that a cached filter is found without importing the table."""


def _library_version(machine: str) -> str:
    for folder in (f"/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib"):
        try:
            return os.readlink(f"{folder}/libseccomp.so.2")
        except OSError:
            continue
    return "none"


def _compile(profile: Mapping[str, Any]) -> str | None:
    """Compile with libseccomp; base64 of the BPF program. None when the library is not there."""
    import ctypes
    from base64 import b64encode

    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    context = library.seccomp_init(_action(profile["defaultAction"], profile.get("defaultErrnoRet")))
    if not context:
        raise Unavailable("libseccomp could not start a filter", operation="compile seccomp filter")
    handle = ctypes.c_void_p(context)
    try:
        for name in profile.get("architectures") or ():
            token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
            if token:
                library.seccomp_arch_add(handle, ctypes.c_uint32(token))
        library.seccomp_attr_set(handle, _ATTRIBUTE_BAD_ARCHITECTURE, ctypes.c_uint32(_action("SCMP_ACT_KILL_PROCESS")))
        library.seccomp_attr_set(handle, _ATTRIBUTE_OPTIMIZE, ctypes.c_uint32(2))  # a binary tree, not a list
        for rule in profile["syscalls"]:
            _add_rule(library, handle, rule)
        fd = os.memfd_create("seccomp")
        try:
            if library.seccomp_export_bpf(handle, fd) != 0:
                raise Unavailable("libseccomp could not compile the filter", operation="compile seccomp filter")
            size = os.lseek(fd, 0, os.SEEK_END)
            return b64encode(os.pread(fd, size, 0)).decode()
        finally:
            os.close(fd)
    finally:
        library.seccomp_release(handle)


def _add_rule(library: ctypes.CDLL, handle: ctypes.c_void_p, rule: Mapping[str, Any]) -> None:
    import ctypes

    class Condition(ctypes.Structure):
        _fields_ = (
            ("arg", ctypes.c_uint),
            ("op", ctypes.c_int),
            ("datum_a", ctypes.c_uint64),
            ("datum_b", ctypes.c_uint64),
        )

    arguments = rule.get("args") or ()
    conditions = (Condition * len(arguments))(
        *(Condition(one["index"], _OPERATORS[one["op"]], one["value"], one.get("valueTwo", 0)) for one in arguments)
    )
    action = ctypes.c_uint32(_action(rule["action"], rule.get("errnoRet")))
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:  # this library is older than the call; the default action covers it
            continue
        # A failure means: the same as the default action, or a call that an architecture does not have.
        library.seccomp_rule_add_array(handle, action, ctypes.c_int(number), len(arguments), conditions)


def _action(name: str, errno_number: int | None = None) -> int:
    value = _ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        return value | (_EPERM if errno_number is None else errno_number)
    return value

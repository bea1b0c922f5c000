"""libnftables through ctypes: apply rulesets atomically, look at what is there.

Starting ``nft`` costs twenty times as much as a call into its library.
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
import socket
import struct

from orchestrator.engines.native import host
from orchestrator.errors import EngineError, Unavailable

_LIBRARY = "libnftables.so.1"
_TRIES = 5
_NETLINK_NETFILTER = 12
# linux/netfilter/nf_tables.h: subsystem 10, NFT_MSG_GETTABLE, NFTA_TABLE_NAME; NFPROTO_INET
_GET_TABLE = 10 << 8 | 1
_TABLE_NAME = 1
_INET = 1
_REQUEST = 1
_ERROR = 2

_lock = _thread.allocate_lock()
_library: ctypes.CDLL | None = None
# One context for each network namespace and process. Freeing a context waits for the kernel to have dismantled what its
# last transaction removed (7-15 ms), so they are kept.
_contexts: dict[tuple[int, int], int] = {}


def _load_library() -> ctypes.CDLL:
    global _library
    if _library is None:
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise Unavailable(
                f"{_LIBRARY} is not installed: networks and published ports need it",
                resource=_LIBRARY,
                operation="load",
                hint="apt-get install libnftables1 (Debian, Ubuntu), dnf install nftables (Fedora)",
            ) from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = ctypes.c_char_p
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        _library = library
    return _library


def _find_context(library: ctypes.CDLL) -> int:
    key = (os.getpid(), os.stat("/proc/thread-self/ns/net").st_ino)
    if key not in _contexts:
        context = library.nft_ctx_new(0)
        if not context:
            raise Unavailable("cannot open a netfilter socket", resource=_LIBRARY, operation="open")
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        library.nft_ctx_output_set_flags(context, 1 << 3)
        # The library opens its socket so that programs would inherit it: a way into the host's firewall.
        host.keep_descriptors()
        _contexts[key] = context
    return _contexts[key]


def close_contexts() -> None:
    """Close this process's netfilter sockets, each of which keeps its network namespace alive. Slow (10 ms)."""
    with _lock:
        for key in tuple(_contexts):
            context = _contexts.pop(key)
            if key[0] == os.getpid():
                _load_library().nft_ctx_free(context)


def _run(commands: str) -> tuple[int, str, str]:
    with _lock:
        library = _load_library()
        context = _find_context(library)
        result = library.nft_run_cmd_from_buffer(context, commands.encode())
        output = library.nft_ctx_get_output_buffer(context) or b""
        problem = library.nft_ctx_get_error_buffer(context) or b""
    return result, output.decode("utf-8", "replace"), problem.decode("utf-8", "replace")


def _refuse(operation: str, problem: str) -> EngineError:
    first = problem.strip().splitlines()[0] if problem.strip() else "no reason given"
    if "Operation not permitted" in problem:
        return Unavailable(f"cannot {operation}: not permitted", operation=operation, hint="run as root")
    if "Protocol not supported" in problem or "Operation not supported" in problem:
        hint = "the kernel needs nf_tables, nft_chain_nat, nft_fib_inet and nft_masq"
        return Unavailable(f"cannot {operation}: {first}", operation=operation, hint=hint)
    return EngineError(f"cannot {operation}: {first}", operation=operation)


def apply_commands(commands: str, operation: str = "set up the firewall") -> None:
    """Run nft commands as one transaction: all of it happens, or nothing.

    Raises Unavailable without the library, the kernel's support or the privilege; EngineError for anything else.
    """
    problem = ""
    for _ in range(_TRIES):
        result, _output, problem = _run(commands)
        if result == 0:
            return
        # Somebody else changed the rules between our look at them and our change.
        if "Interrupted system call" not in problem and "Resource temporarily unavailable" not in problem:
            break
    raise _refuse(operation, problem)


def delete_table(name: str) -> None:
    """Delete the table ``inet name``; one that is not there is fine."""
    apply_commands(f"table inet {name}\ndelete table inet {name}\n", f"delete the firewall table {name}")


def list_tables(prefix: str) -> list[str]:
    """Names of the ``inet`` tables that begin with `prefix`, sorted."""
    result, output, problem = _run("list tables inet")
    if result != 0:
        raise _refuse("list the firewall tables", problem)
    words = [line.split() for line in output.splitlines()]
    return sorted(one[2] for one in words if len(one) == 3 and one[2].startswith(prefix))


def has_table(name: str) -> bool:
    """True if the calling thread's namespace has the table ``inet NAME``; asked of the kernel, without the library.

    Raises Unavailable where this process may not know, EngineError for anything else that is neither yes nor no.
    """
    word = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(word), _TABLE_NAME) + word + b"\0" * (-len(word) % 4)
    body = struct.pack("=BBH", _INET, 0, 0) + attribute
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
            kernel.bind((0, 0))
            kernel.send(struct.pack("=IHHII", 16 + len(body), _GET_TABLE, _REQUEST, 1, 0) + body)
            answer = kernel.recv(1 << 16)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            # A kernel without nftables has no tables.
            return False
        raise _refuse(f"look for the firewall table {name}", error.strerror or str(error)) from error
    return read_presence(answer, name)


def read_presence(answer: bytes, name: str) -> bool:
    """What the kernel's `answer` to the question for table `name` says. Raises as :func:`has_table`. Pure."""
    if struct.unpack_from("=IHHII", answer)[1] != _ERROR:
        return True
    code = -struct.unpack_from("=i", answer, 16)[0]
    # EINVAL: nfnetlink is there, nf_tables is not.
    if code in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise _refuse(f"look for the firewall table {name}", os.strerror(code))


def list_dropping_chains(hook: str) -> list[tuple[str, str, str]]:
    """(family, table, chain) of every base chain on `hook` whose policy is to drop, sorted."""
    result, output, problem = _run("list chains")
    if result != 0:
        raise _refuse("list the firewall chains", problem)
    found, family, table, chain = [], "", "", ""
    for words in (line.split() for line in output.splitlines()):
        if words[:1] == ["table"]:
            family, table = words[1:3]
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif words[:1] == ["type"] and words[2:4] == ["hook", hook] and words[-2:] == ["policy", "drop;"]:
            found.append((family, table, chain))
    return sorted(found)


def read_chain(family: str, table: str, chain: str) -> str | None:
    """The text of one chain with rule handles, or None where it does not exist (or speaks a language of its own)."""
    result, output, _problem = _run(f"list chain {family} {table} {chain}")
    return output if result == 0 else None

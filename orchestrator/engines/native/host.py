"""Raw system calls that Python has no function for, in one place. Linux only; blocking; thread-safe.

Mount calls act on the mount namespace of the calling thread. Errors are OSError with the kernel's errno and the path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fcntl import ioctl
from typing import Final, NamedTuple, TypeVar

_T = TypeVar("_T")

CLONE_FS: Final = 0x00000200
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MS_SLAVE: Final = 0x80000
MS_SHARED: Final = 0x100000

MNT_DETACH: Final = 0x2
UMOUNT_NOFOLLOW: Final = 0x8

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_IN_ROOT: Final = 0x10

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_OPEN_TREE_CLONE: Final = 1
_MOUNT_ATTR_IDMAP: Final = 0x100000
_PR_SET_CHILD_SUBREAPER: Final = 36
_CLOSE_RANGE_CLOEXEC: Final = 4
_FICLONE: Final = 0x40049409

# These numbers are the same on every architecture: the calls are younger than the unified table (Linux 5.2 and later).
_NR_OPEN_TREE: Final = 428
_NR_MOVE_MOUNT: Final = 429
_NR_FSOPEN: Final = 430
_NR_FSCONFIG: Final = 431
_NR_FSMOUNT: Final = 432
_NR_CLOSE_RANGE: Final = 436
_NR_OPENAT2: Final = 437
_NR_MOUNT_SETATTR: Final = 442

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _fail(what: str | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)


def _syscall(number: int, *arguments: object, path: str | None = None) -> int:
    # Variadic C: every argument must be a full machine word, or the upper halves of registers are garbage.
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise _fail(path)
    return result


def keep_descriptors() -> None:
    """close_range(2): no program that is started from now on inherits what this process has open, but for stdio."""
    try:
        _syscall(_NR_CLOSE_RANGE, 3, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)
    except OSError:  # before Linux 5.11
        for number in range(3, 1 + max(int(name) for name in os.listdir("/proc/self/fd"))):
            with suppress(OSError):
                os.set_inheritable(number, False)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    raw = [None if one is None else os.fsencode(one) for one in (source, target, kind, data)]
    if _libc.mount(raw[0], raw[1], raw[2], ctypes.c_ulong(flags), raw[3]) < 0:
        raise _fail(target)


def unmount(target: str) -> bool:
    """Unmount what is on top at `target`, lazily if it is busy. False when nothing is mounted there or it is gone."""
    raw = os.fsencode(target)
    for flags in (UMOUNT_NOFOLLOW, UMOUNT_NOFOLLOW | MNT_DETACH):
        if _libc.umount2(raw, flags) == 0:
            return True
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
            return False
        if number != errno.EBUSY:
            break
    raise _fail(target)


def detach(target: str) -> int | None:
    """Take the mount on top at `target` out of the tree; a descriptor (O_PATH) is its last hold. None: no mount."""
    try:
        fd = os.open(target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if _libc.umount2(os.fsencode(target), UMOUNT_NOFOLLOW | MNT_DETACH) == 0:
        return fd
    failure = _fail(target)
    os.close(fd)
    if failure.errno in (errno.EINVAL, errno.ENOENT):
        return None
    raise failure


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    if _libc.unshare(flags) < 0:
        raise _fail()


def enter_namespace(fd: int, kind: int = 0) -> None:
    """setns(2) for the calling thread; `fd` is a namespace file or a pidfd."""
    if _libc.setns(fd, kind) < 0:
        raise _fail()


def become_subreaper() -> None:
    """Let orphaned descendants become children of this process instead of init's."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise _fail()


def call_in_thread(function: Callable[[], _T]) -> _T:
    """Run `function` in a fresh thread and return its result.

    For what changes the thread itself (unshare, setns, chdir): the thread ends with the call, so nothing leaks into
    a pool of worker threads.
    """
    import _thread

    outcome: list[_T] = []
    failure: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def perform() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # handed to the caller, whatever it is
            failure.append(error)
        finally:
            done.release()

    _thread.start_new_thread(perform, ())
    done.acquire()
    if failure:
        raise failure[0]
    return outcome[0]


def mount_overlay(
    layers: Sequence[str],
    target: str,
    *,
    upper: str | None = None,
    work: str | None = None,
    options: Sequence[str] = (),
) -> None:
    """Mount an overlay of `layers` (topmost first, up to 500) at `target`; without `upper` it is read-only.

    `target` is absolute. `options` are further overlay options (``userxattr``, ``volatile``, ``index=off``). A single
    layer without `upper` becomes a read-only bind mount, because overlay wants two.
    """
    if upper is None and len(layers) == 1:
        mount(layers[0], target, None, MS_BIND)
        mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
        return
    try:
        _mount_overlay_by_steps(layers, target, upper, work, options)
    except OSError as error:
        # EINVAL: a kernel before 6.5 knows no "lowerdir+", or a path is longer than fsconfig takes. ENOSYS, EPERM:
        # no new mount API, or a seccomp filter that does not know it.
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
            raise
        call_in_thread(lambda: _mount_overlay_by_links(layers, target, upper, work, options))


def _mount_overlay_by_steps(
    layers: Sequence[str], target: str, upper: str | None, work: str | None, options: Sequence[str]
) -> None:
    fs = _syscall(_NR_FSOPEN, b"overlay", _FSOPEN_CLOEXEC)
    try:

        def put(key: bytes, value: str) -> None:
            _syscall(_NR_FSCONFIG, fs, _FSCONFIG_SET_STRING, key, os.fsencode(value), 0, path=value)

        for layer in layers:
            put(b"lowerdir+", layer)
        if upper is not None and work is not None:
            put(b"upperdir", upper)
            put(b"workdir", work)
        for option in options:
            name, equals, value = option.partition("=")
            if equals:
                put(name.encode(), value)
            else:
                _syscall(_NR_FSCONFIG, fs, _FSCONFIG_SET_FLAG, name.encode(), None, 0, path=option)
        _syscall(_NR_FSCONFIG, fs, _FSCONFIG_CMD_CREATE, None, None, 0, path=target)
        tree = _syscall(_NR_FSMOUNT, fs, _FSMOUNT_CLOEXEC, 0, path=target)
    finally:
        os.close(fs)
    try:
        attach_tree(tree, target)
    finally:
        os.close(tree)


def _mount_overlay_by_links(
    layers: Sequence[str], target: str, upper: str | None, work: str | None, options: Sequence[str]
) -> None:
    # mount(2) takes one page of options. Names of one or two characters, relative to a folder of links, leave room
    # for 500 layers, and paths with a comma or a colon need no escaping.
    import tempfile

    unshare(CLONE_FS)
    with tempfile.TemporaryDirectory(prefix="overlay-") as links:
        names = []
        for number, layer in enumerate(layers):
            names.append(f"{number:x}")
            os.symlink(layer, f"{links}/{number:x}")
        text = "lowerdir=" + ":".join(names)
        if upper is not None and work is not None:
            os.symlink(upper, f"{links}/u")
            os.symlink(work, f"{links}/w")
            text += ",upperdir=u,workdir=w"
        os.chdir(links)
        mount(
            "overlay",
            target,
            "overlay",
            0,
            ",".join((text, *options)),
        )
        os.chdir("/")


def attach_tree(tree: int, target: str) -> None:
    """move_mount(2): attach a detached mount at `target`."""
    _syscall(_NR_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH, path=target)


def clone_tree(source: str, *, recursive: bool = False) -> int:
    """open_tree(2): a detached copy of the mount at `source`, as a file descriptor."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return _syscall(_NR_OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags, path=source)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def map_tree_ids(tree: int, user_namespace: int, *, recursive: bool = False) -> None:
    """mount_setattr(2): show the detached mount with the ids of a user namespace (its file descriptor)."""
    attr = _MountAttr(_MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _syscall(_NR_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attr), ctypes.sizeof(attr))


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: int, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
    """openat2(2) with RESOLVE_IN_ROOT: open `path` as a process whose root directory is `root` would.

    Symbolic links, absolute ones too, cannot lead out of `root`. The descriptor is close-on-exec.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode if flags & (os.O_CREAT | os.O_TMPFILE) else 0, 0)
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    name = os.fsencode(path)
    for _attempt in range(32):
        try:
            return _syscall(_NR_OPENAT2, root, name, ctypes.byref(how), ctypes.sizeof(how), path=path)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a rename somewhere raced with "..": the kernel asks to try again
                raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def make_node(path: str, mode: int, device: int = 0, *, dir_fd: int | None = None) -> None:
    """mknod(2): a FIFO or a device; `mode` holds its type and its permissions."""
    os.mknod(path, mode, device, dir_fd=dir_fd)


def is_memory_backed(path: str) -> bool:
    """Whether `path` lies on a tmpfs or ramfs, and so never reaches a disk but through swap."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), buffer) < 0:
        raise _fail(path)
    kind = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF
    return kind in (0x01021994, 0x858458F6)


def flush_file_system(fd: int) -> None:
    """syncfs(2): everything written to the file system of `fd` is on its disk when this returns."""
    if _libc.syncfs(fd) < 0:
        raise _fail()


def clone_file(source: int, target: int) -> bool:
    """Share the data of `source` with `target` (FICLONE). False where the file system cannot."""
    try:
        ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def read_start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot: with the pid it names one process for ever. None: no such."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(fd, 4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    # The second field is the command in parentheses and may hold blanks and parentheses itself.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def read_capabilities() -> frozenset[str]:
    """The capabilities that this process may hand on: its permitted and bounding set, as ``CAP_...`` names."""
    permitted = bounding = 0
    with open("/proc/thread-self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapPrm:"):
                permitted = int(line[7:], 16)
            elif line.startswith(b"CapBnd:"):
                bounding = int(line[7:], 16)
    both = permitted & bounding
    return frozenset(name for bit, name in enumerate(CAPABILITIES) if both >> bit & 1)


_CAPABILITIES: Final = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES: Final = tuple(f"CAP_{name}" for name in _CAPABILITIES.split())
"""Every capability by its bit."""

IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
IN_CLOSE_WRITE: Final = 0x8
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x1000000


class FileEvent(NamedTuple):
    """One inotify event; `name` is empty when it is about the watched thing itself."""

    watch: int
    mask: int
    name: str


class Inotify:
    """inotify(7), non-blocking: poll :meth:`fileno`, then :meth:`read`."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if self._fd < 0:
            raise _fail("inotify")

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._fd

    def add(self, path: str, mask: int) -> int:
        """Watch `path`; the number comes back in events."""
        watch = int(_libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask)))
        if watch < 0:
            raise _fail(path)
        return watch

    def remove(self, watch: int) -> None:
        """End a watch; one that has ended by itself is success."""
        _libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> Iterator[FileEvent]:
        """Yield what is there; nothing when nothing is."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch = int.from_bytes(data[at : at + 4], sys.byteorder, signed=True)
            mask = int.from_bytes(data[at + 4 : at + 8], sys.byteorder)
            size = int.from_bytes(data[at + 12 : at + 16], sys.byteorder)
            name = os.fsdecode(data[at + 16 : at + 16 + size].rstrip(b"\0"))
            at += 16 + size
            yield FileEvent(watch, mask, name)

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

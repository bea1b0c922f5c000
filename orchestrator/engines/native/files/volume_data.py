"""The content of named volumes: their folders, the copy from the image on first use, their removal."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from orchestrator.engines.native import host
from orchestrator.engines.native.spawn import find_program, run
from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout


def check_volume_name(name: str) -> str:
    """Return `name` if it can be that of a folder beside those of the other volumes.

    Raises EngineError for what leads elsewhere (``..`` is the state directory) or hides.
    """
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise EngineError(
            f"{name!r} is no name of a volume",
            resource=name,
            operation="create volume",
            hint="a name is letters, digits, '_', '.' and '-', and begins with a letter or digit",
        )
    return name


def volume_path(layout: Layout, name: str) -> str:
    """Where a volume's content is."""
    return f"{layout.volumes}/{check_volume_name(name)}/_data"


def create_volume(layout: Layout, name: str) -> str:
    """Make the volume's folders; one that exists is success. Returns the content's path."""
    path = volume_path(layout, name)
    os.makedirs(path, mode=0o755, exist_ok=True)
    return path


def remove_volume(layout: Layout, name: str) -> None:
    """Remove a volume with its content; one that is gone is success."""
    from shutil import rmtree

    folder = f"{layout.volumes}/{name}"
    doomed = f"{layout.volumes}/.removed-{name}-{os.getpid()}"
    try:
        # Out of the way first: a removal that is cut short must not leave half a volume under its name.
        os.rename(folder, doomed)
    except FileNotFoundError:
        return
    rmtree(doomed)


def fill_volume(layout: Layout, name: str, rootfs: str, target: str) -> bool:
    """Copy what the image has at `target` into the volume, if the volume is empty: content, owners, modes, xattrs.

    Returns whether anything was done. A copy that was cut short is made again; two containers that meet a new volume at
    the same time fill it once.
    """
    import fcntl

    data, marker = volume_path(layout, name), f"{layout.volumes}/{name}/.filling"
    if os.listdir(data) and not os.path.exists(marker):
        return False
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        origin = host.open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    finally:
        os.close(root)
    lock = os.open(f"{layout.volumes}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(marker):
            _empty(data)
        elif os.listdir(data):
            return False
        info = os.fstat(origin)
        if os.listdir(origin):
            os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            _copy_tree(origin, data, name)
        os.chown(data, info.st_uid, info.st_gid)
        os.chmod(data, stat.S_IMODE(info.st_mode))
        if os.path.exists(marker):
            host.flush_file_system(lock)
            os.unlink(marker)
        return True
    finally:
        os.close(lock)
        os.close(origin)


def _empty(folder: str) -> None:
    from shutil import rmtree

    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            rmtree(entry.path)
        else:
            os.unlink(entry.path)


def _copy_tree(origin: int, target: str, name: str) -> None:
    # cp knows sparse files, hard links, extended attributes, devices and reflinks, and is written in C.
    program = find_program("cp")
    if program is None:
        raise EngineError(
            "cp is not installed", resource="cp", operation="fill volume", hint="apt-get install coreutils"
        )
    source = f"/proc/{os.getpid()}/fd/{origin}/."
    finished = run([program, "-a", "--reflink=auto", "--", source, target])
    if finished.exit_code != 0:
        raise EngineError(
            f"the volume {name} cannot be filled from the image: {finished.output.strip()}",
            resource=name,
            operation="fill volume",
        )

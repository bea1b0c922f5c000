"""``RUN --mount``: what a command sees besides the layers, made ready inside the step's own mount namespace.

Nothing of it reaches the layer: sources are bound over mount points that stand in the lowest layer of the step's view.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.native import host
from orchestrator.engines.native.dockerfile.performing.layering import mount_view
from orchestrator.engines.native.dockerfile.performing.ssh_agent import open_agent
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.engines.native.images.content import Cancel, check_cancel, try_lock
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import Origin, RunMount, RunStep
    from orchestrator.engines.native.dockerfile.request import BuildSecret, SshSource

_POLL: Final = 0.02
_SECRET_FOLDER: Final = "/run/secrets"
_AGENT_TARGET: Final = "/run/buildkit/ssh_agent.{}"
_PIPES: Final = "/dev/pipes"

OpenOrigin = Callable[["Origin", str, Path], Path]
"""Give the directory of an origin, filtered and mounted below the given folder if that takes a mount. The text is the
path in it that is wanted."""


class MountRequest(Record):
    """What the mounts of one RUN are made from. `folder` is an empty directory of the step, `caches` where persistent
    cache directories stand, `keep` holds what has to be let go when the command has ended."""

    step: RunStep
    folder: Path
    caches: Path
    secrets: Mapping[str, BuildSecret]
    ssh: Mapping[str, SshSource]
    open_origin: OpenOrigin
    keep: ExitStack
    cancel: Cancel
    on_wait: Callable[[str], None]


class PreparedMounts(Record):
    """OCI mounts and variables for the command."""

    mounts: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, str]


def prepare_run_mounts(request: MountRequest) -> PreparedMounts:
    """Make every mount of a RUN ready. Only within `call_with_mounts`. Raises BuildError at the mount's place."""
    mounts: list[Mapping[str, Any]] = []
    environment: dict[str, str] = {}
    agents = 0
    for number, mount in enumerate(request.step.mounts):
        folder = request.folder / str(number)
        folder.mkdir(mode=0o700)
        if mount.type == "bind":
            mounts.append(_prepare_bind(request, mount, folder))
        elif mount.type == "cache":
            mounts.append(_prepare_cache(request, mount, folder))
        elif mount.type == "tmpfs":
            mounts.append(_render_tmpfs(mount))
        elif mount.type == "secret":
            mounts += _prepare_secret(request, mount, folder, environment)
        else:
            mounts += _prepare_ssh(request, mount, folder, environment, agents)
            agents += 1
    if request.step.files:
        mounts.append(_prepare_pipes(request))
    return PreparedMounts(mounts=tuple(mounts), environment=environment)


def _bind(source: Path | str, target: str, *options: str) -> Mapping[str, Any]:
    return {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", "rprivate", *options]}


def _require_target(mount: RunMount) -> str:
    if not mount.target:
        raise BuildError(f"--mount=type={mount.type} needs a target", location=mount.location)
    return mount.target


def _prepare_bind(request: MountRequest, mount: RunMount, folder: Path) -> Mapping[str, Any]:
    source = _open_source(request, mount, folder)
    if not mount.read_write:
        return _bind(source, _require_target(mount), "ro")
    # What the command writes is thrown away.
    if not source.is_dir():
        raise BuildError("a file cannot be mounted writable: mount its directory", location=mount.location)
    for name in ("upper", "work", "merged"):
        (folder / name).mkdir(mode=0o755)
    os.chmod(folder / "upper", source.stat().st_mode & 0o7777)
    host.mount_overlay(
        [str(source)],
        str(folder / "merged"),
        upper=str(folder / "upper"),
        work=str(folder / "work"),
        options=("volatile",),
    )
    return _bind(folder / "merged", _require_target(mount), "rw")


def _open_source(request: MountRequest, mount: RunMount, folder: Path) -> Path:
    from orchestrator.engines.native.dockerfile.front.steps import Origin
    from orchestrator.engines.native.dockerfile.sources.views import resolve_in_root

    origin = mount.origin or Origin()
    root = request.open_origin(origin, mount.source, folder / "source")
    try:
        path = resolve_in_root(str(root), mount.source)
        found = root / path
        os.lstat(found)
        return found
    except (FileNotFoundError, NotADirectoryError) as error:
        what = {"context": "the build context", "stage": "that stage", "named": f"the context {origin.name}"}
        raise BuildError(
            f"{mount.source} is not in {what.get(origin.kind, f'the image {origin.name}')}", location=mount.location
        ) from error


def _prepare_cache(request: MountRequest, mount: RunMount, folder: Path) -> Mapping[str, Any]:
    target = _require_target(mount)
    from hashlib import sha256

    identity = sha256((mount.id or target).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    request.caches.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = _take_cache(request, mount, identity)
    data = place / "data"
    if not data.is_dir():
        _make_cache(request, mount, folder, place)
    os.utime(place)  # when it was used, for the pruning
    return _bind(data, target, "ro" if mount.read_write is False else "rw")


def _take_cache(request: MountRequest, mount: RunMount, identity: str) -> Path:
    """The directory of a cache, locked as its sharing asks for until the command has ended."""
    number = 0
    waiting = False
    while True:
        place = request.caches / (f"{identity}-{number}" if number else identity)
        place.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        # A pruning may have taken the folder away between our making and our locking it.
        if _lock_cache(descriptor, shared=mount.sharing == "shared") and _is_lock_of(descriptor, place):
            request.keep.callback(os.close, descriptor)
            return place
        os.close(descriptor)
        if mount.sharing == "private":
            number += 1
            continue
        if not waiting:
            request.on_wait(f"waiting for the cache {mount.id or mount.target}")
            waiting = True
        check_cancel(request.cancel)
        time.sleep(_POLL)


def _is_lock_of(descriptor: int, place: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == os.stat(place / "lock").st_ino
    except FileNotFoundError:
        return False


def _lock_cache(descriptor: int, *, shared: bool) -> bool:
    if not shared:
        return try_lock(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_cache(request: MountRequest, mount: RunMount, folder: Path, place: Path) -> None:
    """Make a cache's directory whole: two steps that share it may both find it missing."""
    made = place / f"new-{os.urandom(4).hex()}"
    if mount.origin is not None:
        from orchestrator.engines.native.spawn import find_program, run

        source = _open_source(request, mount, folder)
        copied = run([find_program("cp") or "/bin/cp", "-a", "--reflink=auto", "--", str(source), str(made)])
        if copied.exit_code:
            raise BuildError(f"the cache cannot be filled: {copied.output.strip()}", location=mount.location)
    else:
        made.mkdir()
    os.chown(made, mount.uid or 0, mount.gid or 0)
    os.chmod(made, 0o755 if mount.mode is None else mount.mode)
    try:
        os.rename(made, place / "data")
    except OSError:
        from orchestrator.engines.native.images.content import remove_tree

        if not (place / "data").is_dir():
            raise
        remove_tree(made)


def _render_tmpfs(mount: RunMount) -> Mapping[str, Any]:
    options = ["nosuid"]
    if mount.size:
        options.append(f"size={mount.size}")
    return {"destination": _require_target(mount), "type": "tmpfs", "source": "tmpfs", "options": options}


def _prepare_secret(
    request: MountRequest, mount: RunMount, folder: Path, environment: dict[str, str]
) -> Sequence[Mapping[str, Any]]:
    identity = mount.id or os.path.basename(mount.target or "")
    content = _read_secret(request, mount, identity)
    if content is None:
        return ()
    if mount.env is not None:
        environment[mount.env] = content.decode("utf-8", "surrogateescape")
    # With env alone there is no file.
    if mount.env is not None and mount.target is None:
        return ()
    # Never on a disk: the file system goes with the namespace.
    host.mount("tmpfs", str(folder), "tmpfs", host.MS_NOSUID | host.MS_NODEV, "size=1m,mode=700")
    file = folder / "secret"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchown(descriptor, mount.uid or 0, mount.gid or 0)
        os.fchmod(descriptor, 0o400 if mount.mode is None else mount.mode)
    finally:
        os.close(descriptor)
    return (_bind(file, mount.target or f"{_SECRET_FOLDER}/{identity}", "ro", "nosuid", "nodev", "noexec"),)


def _read_secret(request: MountRequest, mount: RunMount, identity: str) -> bytes | None:
    secret = request.secrets.get(identity)
    if secret is None:
        if mount.required:
            known = ", ".join(sorted(request.secrets)) or "none"
            raise BuildError(
                f"the secret {identity} is required, and the build was not given it",
                location=mount.location,
                hint=f"give it with --secret id={identity},src=FILE, or under build.secrets; given: {known}",
            )
        return None
    if secret.content is not None:
        return secret.content
    try:
        with open(secret.file or "", "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise BuildError(
            f"the secret {identity} cannot be read from {secret.file}: {error.strerror}", location=mount.location
        ) from error


def _prepare_ssh(
    request: MountRequest, mount: RunMount, folder: Path, environment: dict[str, str], number: int
) -> Sequence[Mapping[str, Any]]:
    identity = mount.id or "default"
    source = request.ssh.get(identity)
    if source is None:
        if mount.required:
            raise BuildError(
                f"unset ssh forward key {identity}: the ssh agent {identity} is required, "
                "and the build was not given it",
                location=mount.location,
                hint=f"give it with --ssh {identity}, or under build.ssh",
            )
        return ()
    mode = 0o600 if mount.mode is None else mount.mode
    socket = open_agent(source, folder, (mount.uid or 0, mount.gid or 0), mode, request.keep, mount.location)
    target = mount.target or _AGENT_TARGET.format(number)
    environment.setdefault("SSH_AUTH_SOCK", target)
    return (_bind(socket, target, "rw"),)


def _prepare_pipes(request: MountRequest) -> Mapping[str, Any]:
    folder = request.folder / "pipes"
    folder.mkdir(mode=0o755)
    for one in request.step.files:
        file = folder / os.path.basename(one.name)
        file.write_bytes(one.content.encode("utf-8", "surrogateescape"))
        os.chmod(file, 0o755)
    return _bind(folder, _PIPES, "ro")


def open_layers(lower: Sequence[Path], folder: Path) -> Path:
    """A read-only view of a chain at `folder`. Only within `call_with_mounts`."""
    mount_view(lower, folder)
    return folder

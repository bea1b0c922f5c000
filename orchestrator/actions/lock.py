"""``lock``: find out the digest of every image of a stack, keep it in ``stack.lock``, and hold to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.actions.lock_file import (
    NAME,
    Lock,
    LockedImage,
    LockInvalid,
    Use,
    list_uses,
    parse_lock,
    render_lock,
    replace_images,
)
from orchestrator.errors import Diagnostic, StackError
from orchestrator.source import Path, render_path

if TYPE_CHECKING:
    from orchestrator.actions.project import Project, ProjectOptions
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.model import Stack

_Key = tuple[str, str]


class NotLocked(LockInvalid):
    """There is no lock, or it lacks an image that the stack file names."""

    code = "not-locked"


def load_whole(options: ProjectOptions) -> Project:
    """Load the stack with all its profiles: a lock speaks for every way of starting it."""
    from orchestrator.actions.project import load_project

    return load_project(options.replace(profiles=("*",)))


def place_lock(stack: Stack) -> str:
    """The path of the lock: beside the first stack file."""
    first = next((one for one in stack.files if one != "-"), "")
    return os.path.join(os.path.dirname(first) if first else stack.directory, NAME)


def read_lock(path: str) -> Lock | None:
    """The lock at `path`; None if there is none. Raises LockInvalid."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LockInvalid(f"{path} cannot be read: {error}") from None
    return parse_lock(text, path)


def require_lock(stack: Stack) -> Lock:
    """The stack's lock. Raises NotLocked where there is none, LockInvalid."""
    path = place_lock(stack)
    lock = read_lock(path)
    if lock is None:
        raise NotLocked(f"there is no {path}", hint="write it: stack lock")
    return lock


def write_lock(path: str, lock: Lock) -> bool:
    """Write the lock, whole or not at all; False if it says that already. Raises LockInvalid."""
    text = render_lock(lock)
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return False
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    except OSError as error:
        raise LockInvalid(f"{path} cannot be read: {error.strerror}") from None
    fresh = f"{path}.{os.getpid()}"
    try:
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(fresh, path)
    except OSError as error:
        raise LockInvalid(f"{path} cannot be written: {error.strerror}") from None
    return True


def make_lock(stack: Stack, *, update: bool) -> Lock:
    """Find the digest of every image: the one that is locked, else that of the image that is here, else the registry's.

    With `update` it is the registry's for all. An image that is here and came from no registry is locked by its id, as
    it is now. Raises NotLocked with the line of every image that cannot be found.
    """
    from orchestrator.actions.images import open_image_store

    store = open_image_store()
    uses, built = list_uses(stack)
    previous = Lock() if update else _read_previous(stack)

    def resolve(one: Use) -> LockedImage:
        known = previous.find(one.reference, one.platform)
        return known if known is not None and known.digest else _resolve(store, one, ask=update)

    found, failures = _resolve_all(uses, resolve)
    if failures:
        places = {(one.reference, one.platform): one for one in reversed(uses)}
        problems = [
            _locate(stack, places[key], error.code, error.message, error.hint)
            for key, error in sorted(failures.items(), key=lambda item: places[item[0]].path[1:2])
        ]
        raise NotLocked("not every image could be found", diagnostics=problems)
    return Lock(images=tuple(found[key] for key in sorted(found)), built=tuple(built))


def _read_previous(stack: Stack) -> Lock:
    try:
        return read_lock(place_lock(stack)) or Lock()
    except LockInvalid:
        # What somebody has edited says nothing.
        return Lock()


def find_differences(stack: Stack, lock: Lock) -> list[str]:
    """What has moved since the lock was written: in the stack file, and in the registries."""
    from orchestrator.actions.images import open_image_store

    store = open_image_store()
    uses, built = list_uses(stack)
    wanted = {(one.reference, one.platform) for one in uses}
    locked = {(one.reference, one.platform) for one in lock.images}
    told = [f"{_name(*key)} is not locked" for key in sorted(wanted - locked)]
    told += [f"{_name(*key)} is locked, and no longer used" for key in sorted(locked - wanted)]
    told += [f"{name} is built now" for name in sorted(set(built) - set(lock.built))]
    told += [f"{name} is no longer built" for name in sorted(set(lock.built) - set(built))]
    kept = [one for one in uses if (one.reference, one.platform) in locked]
    found, failures = _resolve_all(kept, lambda one: _resolve_again(store, one, lock))
    told += [f"{_name(*key)}: {error.message}" for key, error in sorted(failures.items())]
    for key, now in sorted(found.items()):
        then = lock.find(*key)
        if then is not None and then != now:
            before, after = then.digest or then.image_id, now.digest or now.image_id
            told.append(f"{_name(*key)} has moved: locked is {before}, now it is {after}")
    return told


def _resolve_again(store: ImageStore, one: Use, lock: Lock) -> LockedImage:
    """What is true now of what was locked: the registry's word, or this machine's where no registry had one."""
    from orchestrator.engines.native.images.digests import find_registry_digest
    from orchestrator.engines.native.images.reference import parse_reference

    then = lock.find(one.reference, one.platform)
    if then is None or then.image_id or parse_reference(one.reference).digest:
        return _resolve(store, one, ask=False)
    return then.replace(digest=find_registry_digest(store, one.reference, one.platform or None))


def hold_to_lock(project: Project) -> Project:
    """The project with the locked digest in every image's name.

    Raises NotLocked, with the lines of images that the lock lacks or that are others here, and LockInvalid.
    """
    from orchestrator.actions.images import open_image_store

    stack = project.stack
    assert stack is not None
    lock = require_lock(stack)
    store = open_image_store()
    problems: list[Diagnostic] = []
    pins: list[tuple[Path, str]] = []
    local: set[str] = set()
    for one in list_uses(stack)[0]:
        locked = lock.find(one.reference, one.platform)
        if locked is None:
            message = f"image {_name(one.reference, one.platform)} is not in {NAME}"
            problems.append(_locate(stack, one, NotLocked.code, message, "write it again: stack lock"))
        elif locked.image_id:
            message = _compare_local(store, locked)
            if message:
                hint = "bring that image here, or lock the one that is here: stack lock"
                problems.append(_locate(stack, one, "lock-mismatch", message, hint))
            local.add(locked.reference)
        elif "@" not in one.reference:
            pins.append((one.path, f"{one.reference}@{locked.digest}"))
    if problems:
        raise NotLocked(problems[0].message, diagnostics=problems)
    return project.replace(stack=_pin(stack, pins, local))


def _pin(stack: Stack, pins: Sequence[tuple[Path, str]], local: set[str]) -> Stack:
    import json

    from orchestrator.spec.transport import dump_stack, load_dumped_stack

    data = json.loads(json.dumps(dump_stack(stack)))
    replace_images(data["tree"], pins)
    pinned = load_dumped_stack(data)
    for name, service in stack.services.items():
        if service.image in local and service.build is None:
            # What is here and nowhere else must not be asked for at a registry that has something of that name.
            config = pinned.tree["services"][name]
            config.put("pull_policy", "never", config.marks["image"])
    return load_dumped_stack(dump_stack(pinned))


def _compare_local(store: ImageStore, locked: LockedImage) -> str:
    image = store.resolve_image(locked.reference)
    if image is None:
        return f"image {locked.reference} came from no registry when it was locked, and is not here"
    if image.id != locked.image_id:
        return f"image {locked.reference} is {image.id} here; {locked.image_id} is locked"
    return ""


def _resolve(store: ImageStore, one: Use, *, ask: bool) -> LockedImage:
    from orchestrator.engines.native.images.digests import find_registry_digest, pin_reference
    from orchestrator.engines.native.images.reference import parse_reference

    locked = LockedImage(reference=one.reference, platform=one.platform)
    reference = parse_reference(one.reference)
    if reference.digest:
        return locked.replace(digest=reference.digest)
    image = store.resolve_image(one.reference)
    if image is not None and not any(name.partition("@")[0] == reference.name for name in image.repo_digests):
        return locked.replace(image_id=image.id)
    if ask:
        return locked.replace(digest=find_registry_digest(store, one.reference, one.platform or None))
    return locked.replace(digest=pin_reference(store, one.reference, one.platform or None).rpartition("@")[2])


def _resolve_all(
    uses: Sequence[Use], resolve: Callable[[Use], LockedImage]
) -> tuple[Mapping[_Key, LockedImage], Mapping[_Key, StackError]]:
    from concurrent.futures import ThreadPoolExecutor

    found: dict[_Key, LockedImage] = {}
    failures: dict[_Key, StackError] = {}

    def perform(key: _Key, one: Use) -> None:
        try:
            found[key] = resolve(one)
        except StackError as error:
            failures[key] = error

    wanted = {(one.reference, one.platform): one for one in uses}
    with ThreadPoolExecutor(max_workers=4) as pool:
        for done in [pool.submit(perform, key, one) for key, one in wanted.items()]:
            done.result()
    return found, failures


def _locate(stack: Stack, one: Use, code: str, message: str, hint: str) -> Diagnostic:
    return Diagnostic(code, message, stack.sources.locate(one.path), render_path(one.path), hint)


def _name(reference: str, platform: str) -> str:
    return f"{reference} ({platform})" if platform else reference

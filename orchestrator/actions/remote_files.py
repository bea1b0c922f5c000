"""Stack files that stand elsewhere, in a registry or a repository: they become a folder, and are loaded from there.

In a registry the form is that of Docker Compose: an OCI artifact with a layer for each stack file in their order,
further ones for files that are extended and for env files, which are known by the names in their annotations.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Final

from orchestrator.errors import FileMissing
from orchestrator.record import Record

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.engines.native.images.artifacts import Artifact

SCHEME: Final = "oci:"
ARTIFACT_TYPE: Final = "application/vnd.docker.compose.project"
CONFIG_TYPE: Final = "application/vnd.docker.compose.config.empty.v1+json"
FILE_TYPE: Final = "application/vnd.docker.compose.file+yaml"
ENV_TYPE: Final = "application/vnd.docker.compose.envfile"
FILE_NOTE: Final = "com.docker.compose.file"
ENV_NOTE: Final = "com.docker.compose.envfile"
EXTENDS_NOTE: Final = "com.docker.compose.extends"

_MAIN: Final = "compose.yaml"


class NoStackArtifact(FileMissing):
    """The registry has something of that name, and it is no stack."""

    code = "no-stack-artifact"


class Fetched(Record):
    """A stack file that has been fetched. `settled` if its name will never mean another one."""

    path: str
    settled: bool = False


def fetch_stack(name: str) -> Fetched:
    """Fetch ``oci://REPOSITORY[:TAG]`` or what a Git reference names; return the stack file that it became.

    What has been fetched is kept by its digest or commit, until it is of no use any more. Its folder is called as the
    repository is, which names the project. Raises FileMissing, and what fetching an image raises.
    """
    from orchestrator.actions.checkouts import hold_checkouts, note_use, prune_checkouts
    from orchestrator.engines.native.layout import Layout

    folder = find_stacks_folder()
    with hold_checkouts(str(folder)):
        found = _fetch(name, folder)
        place = os.path.dirname(_place_origins(found.path))
        is_new = note_use(place)
    if is_new:
        prune_checkouts(Layout.from_environment(), str(folder), place)
    return found


def _fetch(name: str, folder: Path) -> Fetched:
    if name.startswith(SCHEME):
        return _fetch_artifact(name, folder)
    from orchestrator.actions.git_files import fetch_repository

    path, origin, settled = fetch_repository(name, folder)
    _note_origin(path, origin)
    return Fetched(path=path, settled=settled)


def list_origins(path: str) -> frozenset[str]:
    """The repositories that the folder or file `path` was fetched from; none for what is this machine's own."""
    try:
        with open(_place_origins(path), encoding="utf-8") as file:
            return frozenset(file.read().splitlines())
    except (OSError, ValueError):
        return frozenset()


def find_stacks_folder() -> Path:
    """Where what was fetched is kept: a folder for each artifact or commit, and in it one that names the project."""
    from orchestrator.engines.native.layout import Layout

    return Layout.from_environment().cache / "stacks"


def _place_origins(path: str) -> str:
    """Where the origins of what `path` is a part of are noted. Raises ValueError for what was not fetched."""
    folder = str(find_stacks_folder())
    inside = os.path.relpath(path, folder)
    if inside == "." or inside.startswith(".."):
        raise ValueError(path)
    return os.path.join(folder, inside.partition("/")[0], ".origins")


def _note_origin(path: str, origin: str) -> None:
    if origin in list_origins(path):
        return
    with open(_place_origins(path), "a", encoding="utf-8") as file:
        file.write(f"{origin}\n")


def _fetch_artifact(name: str, stacks: Path) -> Fetched:
    from orchestrator.actions.images import open_image_store
    from orchestrator.engines.native.images.artifacts import fetch_artifact
    from orchestrator.engines.native.images.reference import parse_reference

    if os.environ.get("COMPOSE_EXPERIMENTAL_OCI_REMOTE", "").lower() in ("0", "f", "false"):
        raise NoStackArtifact("stacks from registries are switched off by COMPOSE_EXPERIMENTAL_OCI_REMOTE")
    source = name.removeprefix(SCHEME).removeprefix("//")
    reference = parse_reference(source)
    artifact = fetch_artifact(open_image_store().load_settings(), source)
    if artifact.kind not in (ARTIFACT_TYPE, CONFIG_TYPE):
        raise NoStackArtifact(
            f"{source} is no stack: it is of the type {artifact.kind or 'unknown'}",
            hint="an image is run by a service; a stack is published with: stack publish",
        )
    cache = stacks / artifact.digest.replace(":", "-")
    folder = cache / reference.name.rpartition("/")[2]
    path = str(folder / _MAIN)
    if not os.path.exists(path):
        _write_files(split_artifact(artifact, source), str(cache), str(folder))
    _note_origin(path, reference.name)
    return Fetched(path=path, settled=f"@{artifact.digest}" in source)


def _write_files(files: dict[str, bytes], cache: str, folder: str) -> None:
    """Write `files` into the new `folder`, all or none of them; somebody else may do the same."""
    os.makedirs(cache, mode=0o700, exist_ok=True)
    fresh = tempfile.mkdtemp(prefix=".fresh-", dir=cache)
    for file, data in files.items():
        with open(os.path.join(fresh, file), "wb") as out:
            out.write(data)
    try:
        os.rename(fresh, folder)
    except OSError:
        import shutil

        shutil.rmtree(fresh)
        if not os.path.exists(os.path.join(folder, _MAIN)):
            raise


def split_artifact(artifact: Artifact, source: str) -> dict[str, bytes]:
    """The files of an artifact by their names: the stack files as documents of one. Raises NoStackArtifact. Pure."""
    main: list[bytes] = []
    files: dict[str, bytes] = {}
    for part in artifact.parts:
        if part.media_type == FILE_TYPE and part.annotations.get(EXTENDS_NOTE) != "true":
            main.append(part.data)
            continue
        if part.media_type not in (FILE_TYPE, ENV_TYPE):
            raise NoStackArtifact(f"{source} holds something that is no file of a stack: {part.media_type}")
        name = part.annotations.get(FILE_NOTE if part.media_type == FILE_TYPE else ENV_NOTE, "")
        if not name or name in (".", "..", _MAIN) or "/" in name or "\0" in name:
            raise NoStackArtifact(f"{source} holds a file of an impossible name: {name!r}")
        files[name] = part.data
    if not main:
        raise NoStackArtifact(f"{source} holds no stack file")
    return {**files, _MAIN: b"\n---\n".join(main)}

"""``image build --output``: where else the result of a build goes, besides this machine's images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from orchestrator.errors import FileMissing, StackError, UsageError
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.images.store import ImageStore

KINDS = ("local", "tar", "oci", "docker", "image", "registry", "cacheonly")
"""What ``type=`` may be."""

_FIELDS = {"type", "dest", "name", "push", "tar"}
_HONOURED = {"oci-mediatypes": "true", "rewrite-timestamp": "true", "store": "true", "compression": "uncompressed"}
# Layers are written as plain tars with the media types of OCI; their times follow SOURCE_DATE_EPOCH where it is set.


class BuildOutput(Record):
    """One ``--output``. `dest` is a file or a folder, ``-`` standard output, empty: none is needed."""

    kind: str
    dest: str = ""
    names: tuple[str, ...] = ()
    push: bool = False
    packed: bool = True
    """Whether an OCI layout is written as one tar, and not as a folder."""


def parse_output(text: str) -> BuildOutput:
    """Read ``type=KIND[,dest=PATH][,name=NAME][,push=true][,tar=false]``, a folder, or ``-``. Raises UsageError."""
    import csv

    parts = next(csv.reader([text]), [])
    if len(parts) == 1 and "=" not in parts[0]:
        return BuildOutput(kind="tar" if parts[0] == "-" else "local", dest=parts[0])
    fields: dict[str, str] = {}
    names: list[str] = []
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals or not name:
            raise UsageError(f"--output: cannot read {part!r}", hint="write type=KIND,dest=PATH")
        if name not in _FIELDS and _HONOURED.get(name) != value:
            raise UsageError(f"--output: {part} is not supported", hint=f"known are {', '.join(sorted(_FIELDS))}")
        if name == "name":
            names += [one for one in value.split(",") if one]
        fields[name] = value
    return _make_output(fields, tuple(names))


def _make_output(fields: Mapping[str, str], names: tuple[str, ...]) -> BuildOutput:
    kind = fields.get("type", "")
    if kind not in KINDS:
        said = f"there is no type {kind!r}" if kind else "the type is missing"
        raise UsageError(f"--output: {said}", hint=f"one of {', '.join(KINDS)}")
    dest = fields.get("dest", "")
    packed = _read_flag(fields, "tar", default=True)
    if kind == "local" and dest in ("", "-"):
        raise UsageError("--output: type=local needs a folder", hint="write type=local,dest=FOLDER")
    if kind == "oci" and not packed and dest in ("", "-"):
        raise UsageError("--output: type=oci,tar=false needs a folder", hint="write type=oci,tar=false,dest=FOLDER")
    if kind in ("image", "registry", "cacheonly") and dest:
        raise UsageError(f"--output: type={kind} has no dest")
    return BuildOutput(
        kind=kind,
        dest=dest or ("-" if kind in ("tar", "oci") else ""),
        names=names,
        push=kind == "registry" or _read_flag(fields, "push", default=False),
        packed=packed,
    )


def _read_flag(fields: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = fields.get(name, str(default)).lower()
    if value not in ("true", "false", "1", "0"):
        raise UsageError(f"--output: {name}={value} is neither true nor false")
    return value in ("true", "1")


def check_outputs(outputs: Sequence[BuildOutput], *, several: bool) -> None:
    """See before the work whether the results can be written. Raises UsageError, FileMissing."""
    if sum(one.dest == "-" for one in outputs) > 1:
        raise UsageError("--output: standard output can be named once")
    for one in outputs:
        if several and one.kind in ("local", "tar"):
            raise UsageError(
                f"--output: type={one.kind} takes the files of one platform", hint="build for one, or write type=oci"
            )
        if one.dest == "-" and sys.stdout.isatty():
            raise UsageError("--output: an archive is nothing for a terminal", hint="redirect, or name a file")
        if one.dest in ("", "-"):
            continue
        if is_folder(one):
            if os.path.exists(one.dest) and not os.path.isdir(one.dest):
                raise UsageError(f"--output: {one.dest} is no folder")
        elif not os.path.isdir(os.path.dirname(one.dest) or "."):
            raise FileMissing(f"--output: there is no folder {os.path.dirname(one.dest)}")
        elif os.path.isdir(one.dest):
            raise UsageError(f"--output: {one.dest} is a folder", hint="name a file")


def is_folder(output: BuildOutput) -> bool:
    """Whether its `dest` is a folder, which is made where it is missing."""
    return output.kind == "local" or not output.packed


def write_output(store: ImageStore, output: BuildOutput, image_id: str, names: Sequence[str]) -> None:
    """Write an image that is in the store as `output` says. `names` are what an archive calls it. Raises StackError."""
    from orchestrator.engines.native.images.flatten import export_rootfs

    if not output.dest:
        return
    if output.kind == "local":
        # The files belong to whoever asked for them, as docker has it.
        _unpack(output.dest, lambda stream: export_rootfs(store, image_id, stream), "--no-same-owner")
    elif output.kind == "tar":
        _write(output.dest, lambda stream: export_rootfs(store, image_id, stream))
    elif not output.packed:
        _unpack(output.dest, lambda stream: store.save_archive(names or [image_id], stream, form="oci"))
    else:
        form = "oci" if output.kind == "oci" else "both"
        target = sys.stdout.buffer if output.dest == "-" else Path(output.dest)
        store.save_archive(names or [image_id], target, form=form)  # type: ignore[arg-type]
        sys.stdout.buffer.flush()


def _write(dest: str, render: Callable[[BinaryIO], None]) -> None:
    if dest == "-":
        render(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    from orchestrator.actions.images import open_output

    with open_output(dest) as file:
        render(file)


def _unpack(folder: str, render: Callable[[BinaryIO], None], *options: str) -> None:
    """Unpack the tar that `render` writes into `folder`, over what is there."""
    import subprocess

    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise StackError(f"cannot make the folder {folder}: {error.strerror}") from error
    command = ["tar", "-x", "-p", "--numeric-owner", *options, "-C", folder, "-f", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as tar:
        assert tar.stdin is not None and tar.stderr is not None
        try:
            render(cast("BinaryIO", tar.stdin))
            tar.stdin.close()
        except BrokenPipeError:
            pass  # tar says why
        said = tar.stderr.read().decode(errors="replace").strip()
        tar.wait()
    if tar.returncode:
        raise StackError(f"cannot write the files to {folder}: {said.splitlines()[-1] if said else tar.returncode}")

"""What a stage of a Dockerfile comes to once everything is expanded: the steps that the builder performs.

The front end makes them without touching a file system
(:func:`~orchestrator.engines.native.dockerfile.front.evaluate.evaluate_stage`); all values are final: variables are
expanded, paths are absolute, flags are parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from orchestrator.errors import Diagnostic
from orchestrator.record import Record
from orchestrator.source import Location

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Origin(Record):
    """Where ``COPY --from`` and ``RUN --mount=from=`` take files from.

    `kind` ``context`` is the build context, ``stage`` another stage (`name` is its index as text), ``named`` an
    additional context of the request, ``image`` an image reference (``scratch``: an empty directory).
    """

    kind: Literal["context", "stage", "named", "image"] = "context"
    name: str = ""


class Step(Record):
    """One instruction of a stage. `location` is in the Dockerfile (its file as it is shown to people).

    `text` is the instruction as it was written, on one line. `config` is the OCI image ``config`` object after the
    step, `created_by` what the image's history says (empty: no entry, as
    for ONBUILD). `filesystem` tells steps that make a layer from those that only change the configuration.
    """

    location: Location
    text: str
    created_by: str = ""
    config: Mapping[str, Any] = _NOTHING

    @property
    def filesystem(self) -> bool:
        """Whether the step makes a layer."""
        return False


class ConfigStep(Step):
    """ENV, LABEL, CMD, ENTRYPOINT, EXPOSE, USER, VOLUME, STOPSIGNAL, HEALTHCHECK, SHELL, ARG, ONBUILD, MAINTAINER."""


class WorkdirStep(Step):
    """WORKDIR: make the directory if it is not there. `path` is absolute, `user` as in USER (empty: root)."""

    path: str
    user: str = ""

    @property
    def filesystem(self) -> bool:
        # The root directory is there: nothing to make, no layer.
        return self.path != "/"


class RunMount(Record):
    """One ``RUN --mount``; `type` decides which fields mean something. `mode` is an octal number, sizes are bytes."""

    type: Literal["bind", "cache", "tmpfs", "secret", "ssh"]
    location: Location
    target: str | None = None
    source: str = ""
    origin: Origin | None = None
    read_write: bool | None = None
    id: str = ""
    sharing: Literal["shared", "private", "locked"] = "shared"
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    required: bool = False
    env: str | None = None


class InlineFile(Record):
    """The body of a heredoc, as a file that COPY writes. Variables are expanded already where they should be."""

    name: str
    content: str


class RunStep(Step):
    """RUN. `argv` is what is executed (shell included). `environment` is ENV and the build arguments in scope.

    `build_args` are those members of `environment` that come from ARG or the predefined proxy arguments; the
    predefined ones (HTTP_PROXY ...) that the Dockerfile does not declare belong to `ignored_args`: they do not count
    for the cache. `files` are heredocs that have to stand below ``/dev/pipes`` while the command runs.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = _NOTHING
    build_args: tuple[tuple[str, str], ...] = ()
    ignored_args: tuple[str, ...] = ()
    working_dir: str = "/"
    user: str = ""
    mounts: tuple[RunMount, ...] = ()
    network: Literal["default", "none", "host"] = "default"
    security: Literal["sandbox", "insecure"] = "sandbox"
    files: tuple[InlineFile, ...] = ()

    @property
    def filesystem(self) -> bool:
        return True


class CopyStep(Step):
    """COPY and ADD. `destination` is absolute; `directory` tells that it was written with a slash at its end.

    `sources` are patterns below the origin's root, or, for ADD (`unpack`), URLs and git references too. `chown` and
    `chmod` as written (names, numbers, octal or symbolic). `checksum` is an OCI digest. `inline` files are sources as
    well.
    """

    instruction: Literal["COPY", "ADD"]
    sources: tuple[str, ...]
    destination: str
    directory: bool = False
    origin: Origin = Origin()
    inline: tuple[InlineFile, ...] = ()
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str | None = None
    keep_git_dir: bool = False
    unpack: bool | None = None
    """ADD: None unpacks local archives and leaves remote ones; else as ``--unpack`` says. COPY: False."""

    @property
    def filesystem(self) -> bool:
        return True


class Base(Record):
    """What a stage stands on: ``scratch``, an earlier stage (`name` is its index), a named context or an image."""

    kind: Literal["scratch", "stage", "named", "image"]
    name: str = ""
    platform: str | None = None
    location: Location | None = None


class Scope(Record):
    """What a stage that stands on this one inherits besides the image: the variables and which of them are ARGs.

    `variables` are ENV and ARG together. A value None in `arguments` is an ARG that nobody gave a value.
    """

    variables: Mapping[str, str] = _NOTHING
    arguments: tuple[tuple[str, str | None], ...] = ()
    workdir_set: bool = False


class StageSteps(Record):
    """A stage, ready to be built. `config` is the OCI image ``config`` after the last step, `author` its author."""

    index: int
    name: str
    steps: tuple[Step, ...]
    config: Mapping[str, Any]
    platform: str
    shown: str = ""
    """How the stage is called in progress output: its name, or ``stage-0``; empty if there is only one."""
    author: str = ""
    scope: Scope = Scope()
    warnings: tuple[Diagnostic, ...] = ()

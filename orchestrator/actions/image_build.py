"""``image build``: the words of docker's command line as one request, and carrying it out in this process."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.actions.building_threads import run_in_thread, wait_for_builds
from orchestrator.errors import FileMissing, Interrupted, StackError, UsageError
from orchestrator.events import Event
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.base import BuildEvent
    from orchestrator.engines.native.dockerfile.recall import RecalledBuild
    from orchestrator.engines.native.dockerfile.request import BuildRequest, BuildResult, BuildSecret
    from orchestrator.events import Phase, Sink
    from orchestrator.goal import BuildOptions
    from orchestrator.model import Ulimit

STDIN_LIMIT = 4 << 30
"""Bytes that a context on standard input may have."""

_REMOTE = ("http://", "https://", "git://", "ssh://", "git@", "github.com/")


class BuildWords(Record):
    """The options of ``image build`` as they were written; sizes are bytes."""

    context: str = "."
    dockerfile: str | None = None
    tags: tuple[str, ...] = ()
    target: str | None = None
    platforms: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    network: str = "default"
    hosts: tuple[str, ...] = ()
    shm_size: int | None = None
    ulimits: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


def make_request(words: BuildWords, options: BuildOptions, environment: Mapping[str, str]) -> BuildRequest:
    """Translate what was written; reads standard input where it is named. Raises UsageError, FileMissing."""
    from orchestrator.engines.native.dockerfile.request import BuildRequest

    context, dockerfile, inline, stdin = _read_places(words)
    epoch = options.args.get("SOURCE_DATE_EPOCH") or options.environment.get("SOURCE_DATE_EPOCH")
    if epoch and not epoch.isdecimal():
        raise UsageError(f"SOURCE_DATE_EPOCH={epoch} is no number of seconds")
    platforms = tuple(one for text in words.platforms for one in text.split(",") if one)
    if not platforms and options.environment.get("DOCKER_DEFAULT_PLATFORM"):
        platforms = (options.environment["DOCKER_DEFAULT_PLATFORM"],)
    return BuildRequest(
        context=context,
        stdin=stdin,
        dockerfile=dockerfile,
        inline=inline,
        target=words.target,
        args={**options.proxies, **options.args},
        tags=tuple(dict.fromkeys(words.tags)),
        labels=_parse_pairs("--label", words.labels),
        annotations=_parse_annotations(words.annotations),
        platforms=platforms,
        contexts=_parse_contexts(words.contexts),
        no_cache=True if words.no_cache else tuple(one for text in words.no_cache_filter for one in text.split(",")),
        pull=options.pull,
        network=_parse_network(words.network),
        extra_hosts=tuple(_parse_host(one) for one in words.hosts),
        shm_size=words.shm_size,
        ulimits=dict(_parse_ulimit(one) for one in words.ulimits),
        entitlements=tuple(_parse_entitlement(one) for one in words.allow),
        secrets=tuple(_parse_secret(one, environment) for one in words.secrets),
        ssh=tuple(_parse_ssh(one, options.environment) for one in options.ssh),
        cache_from=words.cache_from,
        cache_to=words.cache_to,
        source_date_epoch=int(epoch) if epoch else None,
        provenance=options.provenance or "",
    )


def _read_places(words: BuildWords) -> tuple[str | None, str | None, str | None, bytes | None]:
    """Context, Dockerfile, its text and standard input as a request has them."""
    context, dockerfile = words.context, words.dockerfile
    if context == "-" and dockerfile == "-":
        raise UsageError("context and Dockerfile cannot both be standard input")
    if context == "-":
        return "-", dockerfile, None, _read_stdin()
    if not context.startswith(_REMOTE) and "://" not in context:
        if not os.path.isdir(context):
            what = "is not a folder" if os.path.exists(context) else "does not exist"
            raise FileMissing(f"the build context {context} {what}")
        context = os.path.abspath(context)
    if dockerfile == "-":
        return context, None, _read_stdin().decode("utf-8", "surrogateescape"), None
    # As docker has it, the path begins where the command is given; below the context is the second guess.
    if dockerfile is not None and os.path.exists(dockerfile):
        dockerfile = os.path.abspath(dockerfile)
    return context, dockerfile, None, None


def _read_stdin() -> bytes:
    if sys.stdin.isatty():
        raise UsageError("nothing comes from standard input", hint="redirect a Dockerfile or a tar, or name a folder")
    data = sys.stdin.buffer.read(STDIN_LIMIT + 1)
    if len(data) > STDIN_LIMIT:
        raise UsageError("the context on standard input is larger than 4 GiB", hint="unpack it and name the folder")
    return data


def _parse_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name:
            raise UsageError(f"{option}: cannot read {text!r}", hint="write NAME=VALUE")
        found[name] = value
    return found


def _parse_annotations(texts: Sequence[str]) -> dict[str, str]:
    """Those of the manifest; ``manifest:`` may stand before the name."""
    found = {}
    for name, value in _parse_pairs("--annotation", texts).items():
        level, colon, rest = name.partition(":")
        level, _, platform = level.partition("[")
        refused = ("index", "index-descriptor", "manifest-descriptor")
        if colon and (level in refused or (platform and level == "manifest")):
            raise UsageError(f"--annotation: {name} is not supported", hint="only the image's manifest has annotations")
        found[rest if colon and level == "manifest" else name] = value
    return found


def _parse_entitlement(text: str) -> str:
    from orchestrator.engines.native.dockerfile.request import ENTITLEMENTS

    if text not in ENTITLEMENTS:
        raise UsageError(f"--allow: there is no entitlement {text!r}", hint=f"one of {', '.join(ENTITLEMENTS)}")
    return text


def _parse_contexts(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for name, value in _parse_pairs("--build-context", texts).items():
        if not value:
            raise UsageError(f"--build-context: cannot read {name!r}", hint="write NAME=FOLDER, NAME=URL ...")
        found[name] = value if "://" in value or value.startswith(_REMOTE) else os.path.abspath(value)
    return found


def _parse_network(text: str) -> str:
    if text not in ("default", "bridge", "none", "host"):
        raise UsageError(f"--network: a build cannot join the network {text}", hint="one of default, none, host")
    return "default" if text == "bridge" else text


def _parse_host(text: str) -> tuple[str, str]:
    separator = "=" if "=" in text else ":"
    name, _, address = text.partition(separator)
    if not name or not address:
        raise UsageError(f"--add-host: cannot read {text!r}", hint="write NAME:ADDRESS")
    return name, address.removeprefix("[").removesuffix("]")


def _parse_ulimit(text: str) -> tuple[str, Ulimit]:
    from orchestrator.model import Ulimit

    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        return name, Ulimit(soft=int(soft), hard=int(hard or soft))
    except ValueError:
        raise UsageError(f"--ulimit: cannot read {text!r}", hint="write NAME=SOFT[:HARD]") from None


def _parse_secret(text: str, environment: Mapping[str, str]) -> BuildSecret:
    """Read ``id=ID[,src=PATH|,env=NAME][,type=file|env]``."""
    from orchestrator.engines.native.dockerfile.request import BuildSecret

    fields = _parse_pairs("--secret", text.split(","))
    unknown = sorted(fields.keys() - {"id", "src", "source", "env", "type"})
    if unknown or not fields.get("id"):
        raise UsageError(f"--secret: cannot read {text!r}", hint="write id=ID,src=PATH or id=ID,env=NAME")
    identity, path, variable = fields["id"], fields.get("src") or fields.get("source"), fields.get("env")
    if fields.get("type") == "env":
        variable, path = variable or path or identity, None
    if not path and not variable:
        variable = identity if identity in environment else None
        path = None if variable else identity
    if variable:
        if variable not in environment:
            raise UsageError(f"--secret: the variable {variable} is not set")
        return BuildSecret(id=identity, content=environment[variable].encode("utf-8", "surrogateescape"))
    if not os.path.isfile(path or ""):
        raise FileMissing(f"--secret: there is no file {path}")
    return BuildSecret(id=identity, file=os.path.abspath(path or ""))


def _parse_ssh(text: str, environment: Mapping[str, str]) -> Any:
    from orchestrator.engines.native.dockerfile.service_request import parse_ssh

    source = parse_ssh(text)
    if source.paths:
        return source.replace(paths=tuple(os.path.abspath(one) for one in source.paths))
    agent = environment.get("SSH_AUTH_SOCK")
    if not agent:
        raise UsageError(f"--ssh {source.id} needs an agent, and SSH_AUTH_SOCK is not set", hint=f"{source.id}=KEY")
    return source.replace(paths=(agent,))


def build_request(request: BuildRequest, sink: Sink) -> BuildResult:
    """Build here and now, telling `sink`. On Ctrl-C the build is ended and Interrupted is raised."""
    from orchestrator.actions.images import open_image_store
    from orchestrator.engines.base import dump_build_event
    from orchestrator.engines.native.building import run_build
    from orchestrator.engines.native.layout import Layout

    subject = request.tags[0] if request.tags else ""
    cancelled = threading.Event()
    lock = threading.Lock()

    def tell(phase: Phase, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        event = Event(time=time.time(), kind="operation", subject=subject, action="build", phase=phase)
        with lock:
            sink(event.replace(verb="build image", message=message, details=details or {}))

    def show(event: BuildEvent) -> None:
        tell("progress", event.name if event.kind == "started" else "", {"build": [dump_build_event(event)]})

    def work() -> BuildResult:
        layout = Layout.from_environment()
        return run_build(layout, open_image_store(), request, progress=show, cancel=cancelled.is_set)

    tell("started")
    try:
        result = run_in_thread(work)
    except KeyboardInterrupt:
        cancelled.set()
        wait_for_builds()
        raise Interrupted("interrupted", hint="what was built so far is in the cache") from None
    except StackError as error:
        tell("failed", error.message)
        raise
    tell("done")
    return result


def find_known_build(request: BuildRequest) -> RecalledBuild | None:
    """What is remembered of a build that would do nothing, and come to the same."""
    from orchestrator.actions.images import open_image_store
    from orchestrator.engines.native.dockerfile.recall import find_build

    return find_build(open_image_store(), request)


def describe_result(request: BuildRequest, result: BuildResult) -> dict[str, Any]:
    """What ``--metadata-file`` holds, under the names that buildx gave them."""
    found = {
        "containerimage.config.digest": result.image_id,
        "containerimage.digest": result.index_digest or result.image_id,
    }
    return {**found, "image.name": ",".join(request.tags)} if request.tags else found


def check_place(option: str, path: str) -> None:
    """See before the work whether its result can be written to `path`. Raises FileMissing, UsageError."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileMissing(f"{option}: there is no folder {folder}")
    if os.path.isdir(path) or not os.access(folder, os.W_OK):
        what = "is a folder" if os.path.isdir(path) else "cannot be written"
        raise UsageError(f"{option}: {path} {what}", hint="name a file")


def write_text(path: str, text: str) -> None:
    """Write a small file whole. Raises StackError."""
    try:
        with open(f"{path}.{os.getpid()}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(f"{path}.{os.getpid()}.new", path)
    except OSError as error:
        raise StackError(f"cannot write {path}: {error.strerror}") from error

"""``stack image build``"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from orchestrator.actions.build_environment import read_build_options
from orchestrator.actions.image_build import (
    BuildWords,
    build_request,
    check_place,
    describe_result,
    make_request,
    write_text,
)
from orchestrator.cli.build_progress import BUILD_PROGRESS
from orchestrator.cli.building import open_display, report_build_error, report_unhonoured, require_builder
from orchestrator.cli.declare import Choice, Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.quantities import parse_size
from orchestrator.errors import Interrupted, OperationFailed, StackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.actions.build_outputs import BuildOutput
    from orchestrator.engines.native.dockerfile.request import BuildRequest, BuildResult

_COMPATIBLE = "Accepted for compatibility, and reported."
_OLD_WORDS = (
    *("--cpu-period", "--cpu-quota", "--cpu-shares", "--cpuset-cpus", "--cpuset-mems", "--isolation"),
    *("--memory-swap", "--security-opt"),
)
_OLD_FLAGS = ("--compress", "--disable-content-trust", "--squash")
# Options of docker's builder before BuildKit: BuildKit has no use for them either.


@declare(
    "build",
    Option("-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="A name of the image."),
    Option("-f", "--file", "dockerfile", metavar="FILE", help="The Dockerfile (default: PATH/Dockerfile)."),
    Option("--target", metavar="STAGE", help="The stage to build."),
    Option("--build-arg", "args", multiple=True, metavar="NAME=VALUE", help="A build argument."),
    Option("--build-context", "contexts", multiple=True, metavar="NAME=PLACE", help="One more build context."),
    Option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the image."),
    Option("--annotation", "annotations", multiple=True, metavar="NAME=VALUE", help="One of its manifest."),
    Option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="What the image is for."),
    Option("--no-cache", flag=True, help="Run every step again."),
    Option("--no-cache-filter", multiple=True, metavar="STAGE", help="Run every step of a stage again."),
    Option("--cache-from", multiple=True, metavar="SOURCE", help="Where results may be taken from."),
    Option("--cache-to", multiple=True, metavar="TARGET", help="Where results are left."),
    Option("--pull", flag=True, help="Fetch base images again."),
    Option("--push", flag=True, help="Send the image to the registries of its names."),
    Option("-o", "--output", "outputs", multiple=True, metavar="DEST", help="A folder, `-`, or type=KIND,dest=PATH."),
    Option("--load", flag=True, help="Accepted for compatibility: the image is always kept here."),
    Option("--secret", "secrets", multiple=True, metavar="id=ID,src=FILE", help="For RUN --mount=type=secret."),
    Option("--ssh", multiple=True, metavar="ID[=PATH]", help="An agent or keys for RUN --mount=type=ssh."),
    Option("--network", default="default", metavar="MODE", help="For RUN: default, none or host."),
    Option("--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS", help="A name for RUN to know."),
    Option("--shm-size", metavar="BYTES", help="The size of /dev/shm."),
    Option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="A limit of RUN's processes."),
    Option("--allow", multiple=True, metavar="ENTITLEMENT", help="network.host or security.insecure."),
    Option("--iidfile", metavar="FILE", help="Write the image's identifier to a file."),
    Option("--metadata-file", metavar="FILE", help="Write what came out to a file, as JSON."),
    Option("--progress", kind=Choice(*BUILD_PROGRESS), help="How the build is shown."),
    Option("-q", "--quiet", flag=True, help="No progress; print the identifier."),
    Option("--check", flag=True, help="Only check the Dockerfile."),
    Option("--call", metavar="NAME[,format=json]", help="build, check, outline or targets."),
    Option("--builder", metavar="NAME", hidden=True, help=_COMPATIBLE),
    Option("-m", "--memory", metavar="BYTES", hidden=True, help=_COMPATIBLE),
    Option("--provenance", metavar="MODE", help="Attest where the image comes from when it is sent: mode=min or max."),
    Option("--attest", multiple=True, metavar="type=TYPE,...", help="The same, as type=provenance,mode=MODE."),
    Option("--sbom", metavar="MODE", hidden=True, help=_COMPATIBLE),
    Option("--cgroup-parent", hidden=True, help=_COMPATIBLE),
    *(Option(one, multiple=True, metavar="VALUE", hidden=True, help=_COMPATIBLE) for one in _OLD_WORDS),
    *(Option(one, flag=True, hidden=True, help=_COMPATIBLE) for one in _OLD_FLAGS),
    Option("--rm/--no-rm", flag=True, default=True, hidden=True),
    Option("--force-rm", flag=True, hidden=True),
    rest="paths",
)
def build_image(invocation: Invocation, /, paths: tuple[str, ...], **asked: Any) -> None:
    """Build an image from a Dockerfile. PATH is a folder, a URL, or `-`: a Dockerfile or a tar on standard input."""
    if len(paths) != 1:
        raise UsageError(
            f"stack image build takes one build context, not {len(paths)}",
            hint="for example: stack image build -t web .",
        )
    for option, path in (("--iidfile", asked["iidfile"]), ("--metadata-file", asked["metadata_file"])):
        if path:
            check_place(option, path)
    require_builder(asked["builder"])
    _report_options(asked)
    options = read_build_options(args=asked["args"], pull=asked["pull"], ssh=asked["ssh"])
    options = options.replace(provenance=_read_provenance(asked))
    names = BuildWords._names - {"shm_size", "context"}
    size = parse_size(asked["shm_size"], "--shm-size") if asked["shm_size"] else None
    given = {name: value for name, value in asked.items() if name in names}
    words = BuildWords(**given, context=paths[0], shm_size=size)
    outputs = _read_outputs(asked["outputs"])
    words = words.replace(tags=(*words.tags, *(name for one in outputs for name in one.names)))
    request = make_request(words, options, os.environ)
    if outputs:
        from orchestrator.actions.build_outputs import check_outputs

        check_outputs(outputs, several=len(request.platforms) > 1)
    call, as_json = _read_call(asked)
    if call != "build":
        from orchestrator.cli.calling import answer_call

        answer_call(request, call, as_json=as_json)
        return
    quiet = asked["quiet"] or (asked["progress"] or invocation.progress) == "quiet"
    try:
        with open_display(invocation, asked["progress"], quiet=quiet, labelled=False) as screen:
            result = build_request(request, screen)
    except Interrupted:
        raise
    except StackError as error:
        report_build_error(error)
        raise OperationFailed("") from None
    _write_outputs(outputs, result, request)
    if asked["iidfile"]:
        write_text(asked["iidfile"], result.image_id)
    if asked["metadata_file"]:
        write_text(asked["metadata_file"], json.dumps(describe_result(request, result), indent=2) + "\n")
    out = f"{result.image_id}\n" if quiet and not any(one.dest == "-" for one in outputs) else ""
    notes = [] if quiet else [f" Image {name} Built" for name in request.tags or (result.image_id,)]
    sys.stdout.write(out)
    for note in notes:
        invocation.note(note)
    if not result.built_steps and not any(asked[name] for name in ("iidfile", "metadata_file", "push", "outputs")):
        _keep_printed(invocation, asked, request, quiet=quiet, notes=notes, out=out)
    if asked["push"] or any(one.push for one in outputs):
        from orchestrator.cli.pushing import push_with_progress

        push_with_progress(invocation, request.tags, quiet=quiet)


def _read_call(asked: dict[str, Any]) -> tuple[str, bool]:
    if asked["call"] is None:
        return "check" if asked["check"] else "build", False
    from orchestrator.cli.calling import read_call

    return read_call(asked["call"])


def _read_outputs(texts: Sequence[str]) -> list[BuildOutput]:
    if not texts:
        return []
    from orchestrator.actions.build_outputs import parse_output

    return [parse_output(one) for one in texts]


def _write_outputs(outputs: Sequence[BuildOutput], result: BuildResult, request: BuildRequest) -> None:
    if outputs:
        from orchestrator.actions.build_outputs import write_output
        from orchestrator.actions.images import open_image_store

        store = open_image_store()
        for one in outputs:
            write_output(store, one, result.image_id, request.tags)


def _keep_printed(
    invocation: Invocation, asked: dict[str, Any], request: BuildRequest, *, quiet: bool, notes: list[str], out: str
) -> None:
    from orchestrator.cli.recalled import can_keep_build

    if not can_keep_build() or request.inline is not None:  # what came from standard input may be another the next time
        return
    from orchestrator.actions.build_environment import find_client_settings
    from orchestrator.actions.image_build import find_known_build
    from orchestrator.cli.building import keep_printed

    known = find_known_build(request)
    seen = [find_client_settings(os.environ)]
    if asked["dockerfile"] is not None:
        # Where it is looked for first.
        seen.append(os.path.abspath(asked["dockerfile"]))
    keep_printed(
        invocation, asked["progress"], {"": known} if known else None, quiet=quiet, notes=notes, out=out, seen=seen
    )


def _read_provenance(asked: dict[str, Any]) -> str:
    """`--provenance`, which wins, or an `--attest` for it."""
    found = asked["provenance"]
    if found is None:
        found = next((one for one in asked["attest"] if "sbom" not in one), "")
    from orchestrator.engines.native.dockerfile.provenance import parse_provenance

    return parse_provenance(found) if found else ""


def _report_options(asked: dict[str, Any]) -> None:
    from orchestrator.engines.native.dockerfile.service_request import is_asked_for

    materials = is_asked_for(asked["sbom"]) or any("sbom" in one for one in asked["attest"])
    report_unhonoured(
        (
            ("--memory", asked["memory"] not in (None, "", "0"), "builds have no memory limit of their own"),
            ("--sbom", materials, "software bills of materials are not made"),
            ("--cgroup-parent", bool(asked["cgroup_parent"]), "builds have no control group of their own"),
            *(
                (one, bool(asked[one.removeprefix("--").replace("-", "_")]), "builds know nothing of the kind")
                for one in (*_OLD_WORDS, *_OLD_FLAGS)
            ),
        )
    )

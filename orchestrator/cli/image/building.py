"""``stack image build``"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from orchestrator.actions.build_environment import read_build_options
from orchestrator.actions.image_build import BuildWords, build_request, describe_result, make_request, write_text
from orchestrator.cli.build_progress import BUILD_PROGRESS
from orchestrator.cli.building import open_display, report_build_error, report_unhonoured
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import stack_command
from orchestrator.cli.quantities import parse_size
from orchestrator.errors import Interrupted, OperationFailed, StackError

_COMPATIBLE = "Accepted for compatibility, and reported."


@stack_command("build")
@click.argument("context", metavar="PATH|URL|-")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="A name of the image.")
@click.option("-f", "--file", "dockerfile", metavar="FILE", help="The Dockerfile (default: PATH/Dockerfile).")
@click.option("--target", metavar="STAGE", help="The stage to build.")
@click.option("--build-arg", "args", multiple=True, metavar="NAME=VALUE", help="A build argument.")
@click.option("--build-context", "contexts", multiple=True, metavar="NAME=PLACE", help="One more build context.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the image.")
@click.option("--annotation", "annotations", multiple=True, metavar="NAME=VALUE", help="One of its manifest.")
@click.option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="What the image is for.")
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@click.option("--no-cache-filter", multiple=True, metavar="STAGE", help="Run every step of a stage again.")
@click.option("--cache-from", multiple=True, metavar="SOURCE", help="Where results may be taken from.")
@click.option("--cache-to", multiple=True, metavar="TARGET", help="Where results are left.")
@click.option("--pull", is_flag=True, help="Fetch base images again.")
@click.option("--push", is_flag=True, help="Send the image to the registries of its names.")
@click.option("--load", is_flag=True, help="Accepted for compatibility: the image is always kept here.")
@click.option("--secret", "secrets", multiple=True, metavar="id=ID,src=FILE", help="For RUN --mount=type=secret.")
@click.option("--ssh", multiple=True, metavar="ID[=PATH]", help="An agent or keys for RUN --mount=type=ssh.")
@click.option("--network", default="default", metavar="MODE", help="For RUN: default, none or host.")
@click.option("--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS", help="A name for RUN to know.")
@click.option("--shm-size", metavar="BYTES", help="The size of /dev/shm.")
@click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="A limit of RUN's processes.")
@click.option("--allow", multiple=True, metavar="ENTITLEMENT", help="network.host or security.insecure.")
@click.option("--iidfile", metavar="FILE", help="Write the image's identifier to a file.")
@click.option("--metadata-file", metavar="FILE", help="Write what came out to a file, as JSON.")
@click.option("--progress", type=click.Choice(BUILD_PROGRESS), help="How the build is shown.")
@click.option("-q", "--quiet", is_flag=True, help="No progress; print the identifier.")
@click.option("--check", is_flag=True, help="Only check the Dockerfile.")
@click.option("--builder", metavar="NAME", hidden=True, help=_COMPATIBLE)
@click.option("-m", "--memory", metavar="BYTES", hidden=True, help=_COMPATIBLE)
@click.option("--provenance", metavar="MODE", hidden=True, help=_COMPATIBLE)
@click.option("--sbom", metavar="MODE", hidden=True, help=_COMPATIBLE)
@click.option("--attest", multiple=True, hidden=True, help=_COMPATIBLE)
@click.option("--cgroup-parent", hidden=True, help=_COMPATIBLE)
@click.option("--rm/--no-rm", default=True, hidden=True)
@click.option("--force-rm", is_flag=True, hidden=True)
@click.pass_obj
def build_image(invocation: Invocation, /, **asked: Any) -> None:
    """Build an image from a Dockerfile. PATH is the build context; `-` reads a Dockerfile or a tar."""
    _report_options(asked)
    options = read_build_options(args=asked["args"], pull=asked["pull"], ssh=asked["ssh"])
    names = BuildWords._names - {"shm_size"}
    size = parse_size(asked["shm_size"], "--shm-size") if asked["shm_size"] else None
    words = BuildWords(**{name: value for name, value in asked.items() if name in names}, shm_size=size)
    request = make_request(words, options, os.environ)
    if asked["check"]:
        from orchestrator.cli.checking import check_requests

        check_requests([request])
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
    if asked["iidfile"]:
        write_text(asked["iidfile"], result.image_id)
    if asked["metadata_file"]:
        write_text(asked["metadata_file"], json.dumps(describe_result(request, result), indent=2) + "\n")
    if quiet:
        sys.stdout.write(f"{result.image_id}\n")
    else:
        for name in request.tags or (result.image_id,):
            invocation.note(f" Image {name}  Built")
    if asked["push"]:
        from orchestrator.cli.pushing import push_with_progress

        push_with_progress(invocation, request.tags, quiet=quiet)


def _report_options(asked: dict[str, Any]) -> None:
    from orchestrator.engines.native.dockerfile.requests import is_asked_for

    attestations = "attestations are not made"
    report_unhonoured(
        (
            ("--builder", asked["builder"] not in (None, "", "default"), "there is one builder, and it is built in"),
            ("--memory", asked["memory"] not in (None, "", "0"), "builds have no memory limit of their own"),
            ("--provenance", is_asked_for(asked["provenance"]), attestations),
            ("--sbom", is_asked_for(asked["sbom"]), attestations),
            ("--attest", bool(asked["attest"]), attestations),
            ("--annotation", bool(asked["annotations"]), "manifests are written without annotations"),
            ("--cgroup-parent", bool(asked["cgroup_parent"]), "builds have no control group of their own"),
        )
    )

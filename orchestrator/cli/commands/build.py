"""``stack build``"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from orchestrator.actions.build import build_services, choose_builds, render_bake
from orchestrator.actions.build_environment import read_build_options
from orchestrator.cli.build_progress import BUILD_PROGRESS
from orchestrator.cli.building import open_display, report_build_error, report_unhonoured, require_builder
from orchestrator.cli.declare import Choice, Option, declare
from orchestrator.cli.diagnostics import report_diagnostics
from orchestrator.cli.invocation import Invocation
from orchestrator.engines.native.dockerfile.provenance import parse_provenance
from orchestrator.errors import OperationFailed
from orchestrator.model import image_reference, list_buildable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.goal import BuildOptions
    from orchestrator.model import Stack


@declare(
    "build",
    Option("--build-arg", "args", multiple=True, metavar="NAME=VALUE", help="A build argument, for all builds."),
    Option("--builder", metavar="NAME", help="Accepted for compatibility: there is one, default."),
    Option("--check", flag=True, help="Only check the Dockerfiles."),
    Option("-m", "--memory", metavar="BYTES", help="Accepted for compatibility: builds have no limit of their own."),
    Option("--no-cache", flag=True, help="Run every step again."),
    Option("--print", "print_bake", flag=True, help="Print the builds as a bake file, and build nothing."),
    Option("--progress", kind=Choice(*BUILD_PROGRESS), help="How the builds are shown."),
    Option(
        "--provenance", metavar="MODE", help="Attest where the images come from when they are sent: mode=min or max."
    ),
    Option("--pull", flag=True, help="Fetch base images again."),
    Option("--push", flag=True, help="Send the images to their registries."),
    Option("-q", "--quiet", flag=True, help="No progress."),
    Option("--sbom", metavar="MODE", help="Accepted for compatibility: attestations are not made."),
    Option("--ssh", multiple=True, metavar="ID[=PATH]", help="An agent or keys for RUN --mount=type=ssh."),
    Option("--with-dependencies", flag=True, help="Services that they depend on, too."),
)
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    args: tuple[str, ...],
    builder: str | None,
    check: bool,
    memory: str | None,
    no_cache: bool,
    print_bake: bool,
    progress: str | None,
    provenance: str | None,
    pull: bool,
    push: bool,
    quiet: bool,
    sbom: str | None,
    ssh: tuple[str, ...],
    with_dependencies: bool,
) -> None:
    """Build the images of services."""
    load = invocation.load if print_bake else invocation.load_to_act
    project = load(services, naming=args)
    stack = project.stack
    assert stack is not None
    needs = choose_builds(stack, services, dependencies=with_dependencies)
    stack = stack.replace(services=list_buildable(stack))
    options = read_build_options(
        args=args, variables=project.environment, no_cache=no_cache, pull=pull, ssh=ssh
    ).replace(every_platform=True)
    if provenance is not None:
        options = options.replace(provenance=parse_provenance(provenance))
    if print_bake:
        sys.stdout.write(json.dumps(render_bake(stack, needs, options), indent=2, ensure_ascii=False) + "\n")
        return
    require_builder(builder)
    _report_options(memory, sbom)
    engine = invocation.engine()
    _check_builds(stack, needs)
    if check:
        from orchestrator.cli.checking import check_dockerfiles

        check_dockerfiles(stack, needs, options)
        return
    if invocation.dry_run:
        _rehearse(invocation, engine.name, stack, needs)
        return
    if not needs:
        print("No services to build", file=sys.stderr)
        return
    engine.require_access()
    with open_display(invocation, progress, quiet=quiet, labelled=len(needs) > 1, stream=sys.stdout) as screen:
        outcome = build_services(engine, stack, needs, options, screen)
    for error in outcome.failures.values():
        report_build_error(error)
    if outcome.failures:
        count = len(outcome.failures) + len(outcome.skipped)
        raise OperationFailed(f"{count} of {len(needs)} images could not be built" if len(needs) > 1 else "")
    built = [facts for _, facts in sorted(outcome.built.items())]
    identified = (progress or invocation.progress) == "quiet" and not quiet
    out = "".join(f"{facts.id}\n" for facts in built) if identified else ""
    notes = [] if quiet or identified else [f" Image {facts.reference} Built" for facts in built]
    sys.stdout.write(out)
    for note in notes:
        invocation.note(note)
    if push:
        from orchestrator.cli.pushing import push_services

        push_services(invocation, stack, tuple(needs), quiet=quiet)
    elif all("=" in arg for arg in args):
        _keep_printed(invocation, stack, services, needs, options, progress, quiet=quiet, notes=notes, out=out)


def _rehearse(invocation: Invocation, engine: str, stack: Stack, names: Iterable[str]) -> None:
    """Tell what would be built. Raises OperationFailed after what can be foreseen to fail has been told."""
    from orchestrator.actions.rehearse import check_context
    from orchestrator.cli.rehearsal import rehearse
    from orchestrator.errors import StackError

    images = {image_reference(stack, stack.services[name]): name for name in names}
    failures: dict[str, StackError] = {}
    for image, name in images.items():
        try:
            if engine == "native":
                check_context(stack, stack.services[name])
        except StackError as error:
            failures[image] = error
    rehearse(invocation, "build image", images, failures=failures)
    for one in failures.values():
        report_build_error(one)
    if failures:
        raise OperationFailed(f"{len(failures)} of {len(images)} images could not be built" if len(images) > 1 else "")


def _keep_printed(
    invocation: Invocation,
    stack: Stack,
    services: tuple[str, ...],
    needs: Mapping[str, Sequence[str]],
    options: BuildOptions,
    progress: str | None,
    *,
    quiet: bool,
    notes: list[str],
    out: str,
) -> None:
    from orchestrator.cli.recalled import can_keep_build

    if not can_keep_build() or (os.environ.get("STACK_ENGINE") or "native") != "native":
        return
    from orchestrator.actions.build import find_known_builds
    from orchestrator.actions.build_environment import find_client_settings
    from orchestrator.actions.project import place_stack
    from orchestrator.cli.building import keep_printed

    keep_printed(
        invocation,
        progress,
        find_known_builds(stack, needs, options),
        quiet=quiet,
        notes=notes,
        out=out,
        rests_on=[place_stack(invocation.project, services)],
        seen=[find_client_settings(os.environ)],
        on_stdout=True,
    )


def _report_options(memory: str | None, sbom: str | None) -> None:
    from orchestrator.engines.native.dockerfile.service_request import is_asked_for

    report_unhonoured(
        (
            ("--memory", memory not in (None, "", "0"), "builds have no memory limit of their own"),
            ("--sbom", is_asked_for(sbom), "software bills of materials are not made"),
        )
    )


def _check_builds(stack: Stack, names: Iterable[str]) -> None:
    """Refuse what no build can honour before any begins, and warn of what has no effect. Raises CannotRun."""
    from orchestrator.engines.native.dockerfile.service_request import translate_build
    from orchestrator.errors import CannotRun

    found = [one for name in names for one in translate_build(stack, stack.services[name], check=True)[1]]
    if any(one.severity == "error" for one in found):
        raise CannotRun(found)
    report_diagnostics(found)

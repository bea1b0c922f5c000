"""``stack up``"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from orchestrator.actions.goals import UpOptions, choose_build, parse_scale, read_pull
from orchestrator.cli.converging import converge_with_progress, show_plan
from orchestrator.cli.declare import BUILDING, DRY_RUN, PULL, TIMEOUT, AtLeast, Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.owning import load_own
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.cli.attached import AttachOptions


@declare(
    "up",
    Option("-d", "--detach", flag=True, help="Go on in the background; do not show the containers' output."),
    Option("--wait", flag=True, help="Wait until the services run, or are healthy. Implies --detach."),
    Option("--wait-timeout", kind=AtLeast(0), metavar="SECONDS", help="Wait so long at most."),
    Option("--scale", "scales", multiple=True, metavar="SERVICE=N", help="Run N replicas of a service."),
    Option("--force-recreate", flag=True, help="Recreate containers even if nothing has changed."),
    Option("--no-recreate", flag=True, help="Leave containers that exist as they are."),
    Option("--always-recreate-deps", flag=True, help="Recreate the services that they depend on, too."),
    Option("-V", "--renew-anon-volumes", flag=True, help="Make anonymous volumes anew."),
    Option("--remove-orphans", flag=True, help="Remove containers of services that the file no longer has."),
    Option("--no-deps", flag=True, help="Not the services that they depend on."),
    Option("--no-start", flag=True, help="Create, and do not start."),
    *BUILDING,
    Option("--quiet-build", flag=True, help="No progress of builds."),
    PULL,
    Option("--quiet-pull", flag=True, help="No progress of fetched images."),
    TIMEOUT,
    Option("--abort-on-container-exit", flag=True, help="Stop everything as soon as one container ends."),
    Option("--abort-on-container-failure", flag=True, help="Stop everything as soon as one container fails."),
    Option("--exit-code-from", metavar="SERVICE", help="End with the service's exit code; stop everything then."),
    Option("--attach", multiple=True, metavar="SERVICE", help="Show the output of this service only."),
    Option("--no-attach", multiple=True, metavar="SERVICE", help="Do not show the output of this service."),
    Option("--attach-dependencies", flag=True, help="Show the output of services that they depend on, too."),
    Option("--menu/--no-menu", flag=True, default=None, help="Read keys: d detaches, w watches files."),
    Option("-w", "--watch", flag=True, help="Follow the files that develop.watch names."),
    Option("--no-color", flag=True, help="No colours."),
    Option("--no-log-prefix", flag=True, help="No names before the lines."),
    Option("--timestamps", flag=True, help="Show when each line was written."),
    Option("--locked", flag=True, help="Run the images of stack.lock, by their digests, and no others."),
    Option("--isolate", flag=True, help="Give this folder a project name and ports of its own."),
    Option("--rollback", flag=True, help="If it fails, go back to what ran before."),
    Option(
        "-y",
        "--yes",
        flag=True,
        help="Ask nothing: yes, also to losing the data of volumes that are declared differently.",
    ),
    DRY_RUN,
)
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    detach: bool,
    wait: bool,
    wait_timeout: int | None,
    scales: tuple[str, ...],
    force_recreate: bool,
    no_recreate: bool,
    always_recreate_deps: bool,
    renew_anon_volumes: bool,
    remove_orphans: bool,
    no_deps: bool,
    no_start: bool,
    build: bool,
    no_build: bool,
    quiet_build: bool,
    pull: str | None,
    quiet_pull: bool,
    timeout: int | None,
    abort_on_container_exit: bool,
    abort_on_container_failure: bool,
    exit_code_from: str | None,
    attach: tuple[str, ...],
    no_attach: tuple[str, ...],
    attach_dependencies: bool,
    menu: bool | None,
    watch: bool,
    no_color: bool,
    no_log_prefix: bool,
    timestamps: bool,
    locked: bool,
    isolate: bool,
    rollback: bool,
    yes: bool,
) -> int:
    """Create and start the services, and what they depend on."""
    wait = wait or wait_timeout is not None
    abort: Literal["", "any", "failure"] = ""
    if abort_on_container_exit and abort_on_container_failure:
        raise UsageError("--abort-on-container-failure cannot be combined with --abort-on-container-exit")
    if abort_on_container_exit or exit_code_from:
        abort = "any"
    if abort_on_container_failure:
        abort = "failure"
    if abort and (detach or wait or no_start):
        raise UsageError("to abort on a container's end, `up` has to stay: leave out --detach, --wait and --no-start")
    if watch and (detach or wait or no_start):
        raise UsageError("--watch stays with the services: leave out --detach, --wait and --no-start")
    if watch and no_build:
        raise UsageError("--watch builds what has changed: leave out --no-build")
    if (attach or attach_dependencies) and (detach or wait):
        option = "--attach" if attach else "--attach-dependencies"
        raise UsageError(f"{option} is about output that is shown: leave out --detach and --wait")
    if attach and attach_dependencies:
        raise UsageError("--attach names whose output is shown: leave out --attach-dependencies")
    from orchestrator.actions.prepare_up import prepare_up
    from orchestrator.cli.consenting import ask_to_renew

    policy, build = read_pull(pull, build=build)
    project = load_own(invocation, services, isolate=isolate, yes=yes)
    if locked:
        from orchestrator.actions.lock import hold_to_lock

        project = hold_to_lock(project)
        # A digest cannot move; what has none must not be replaced.
        policy = None if policy == "always" else policy
    goal = prepare_up(
        project,
        UpOptions(
            services=services,
            dependencies=not no_deps,
            start=not no_start,
            scale=parse_scale(scales),
            force_recreate=force_recreate,
            no_recreate=no_recreate,
            always_recreate_deps=always_recreate_deps,
            renew_anon_volumes=renew_anon_volumes,
            remove_orphans=remove_orphans,
            build=choose_build(build=build, no_build=no_build),
            pull=policy or "policy",
            renew_volumes=ask_to_renew(invocation, project.stack, yes=yes),
            timeout=timeout,
            wait=wait,
            abort_on_exit=abort,
            rerun=_choose_rerun(project, services, abort, exit_code_from),
            rollback=rollback,
        ),
    )
    if invocation.dry_run:
        attached = not (detach or wait or no_start)
        show_plan(invocation, goal, start=not attached, running=True)
        if attached:
            print("end of 'stack up' output, interactive run is not supported in dry-run mode")
        return 0
    hide = (*(("pull image",) if quiet_pull else ()), *(("build image",) if quiet_build else ()))
    if detach or wait or no_start:
        outcome = converge_with_progress(
            invocation, goal, "up", timeout=wait_timeout, engine=invocation.engine, check=True, hide=hide
        )
        if outcome is not None and not (locked or isolate or no_start):
            from orchestrator.cli.again import keep_up

            keep_up(invocation, project, goal, outcome, services)
        return 0
    from orchestrator.cli.attached import AttachOptions, run_attached
    from orchestrator.cli.menu import wants_menu

    options: AttachOptions = AttachOptions(
        services=services,
        attach=attach,
        no_attach=no_attach,
        dependencies=attach_dependencies,
        exit_code_from=exit_code_from or "",
        colour=invocation.colour(sys.stdout) and not no_color,
        prefix=not no_log_prefix,
        timestamps=timestamps,
        hide=hide,
        menu=wants_menu(menu),
    )
    if not (watch or options.menu):
        return run_attached(invocation, goal, options)
    from orchestrator.cli.watching import Companion

    companion = Companion(invocation, project, services, enabled=watch, build=not no_build, quiet=quiet_build)
    try:
        return run_attached(invocation, goal, options, companion)
    finally:
        companion.end()


def _choose_rerun(
    project: Project, services: tuple[str, ...], abort: str, exit_code_from: str | None
) -> tuple[str, ...]:
    """Whose end is waited for: had it come before, nothing would ever end this command."""
    if exit_code_from:
        return (exit_code_from,)
    if abort != "any":
        return ()
    return services or tuple(project.stack.services if project.stack is not None else ())

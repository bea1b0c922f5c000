"""``stack run``"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from orchestrator.actions.goals import read_pull
from orchestrator.cli.converging import report_failures, show_plan
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, pull_option, stack_command
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.engines.base import Engine
    from orchestrator.events import Sink
    from orchestrator.goal import Goal
    from orchestrator.supervision.client import Session

_NO_TTY = "No terminal, or one all the same (default: one if this is one)."


class InputIsNoTerminal(StackError):
    """A terminal was asked for, and what is typed comes from elsewhere."""

    code = "no-terminal"


@stack_command("run", context_settings={"allow_interspersed_args": False})
@click.option("--build", is_flag=True, help="Build the image first.")
@click.option("--cap-add", multiple=True, metavar="NAME", help="Give the container a capability.")
@click.option("--cap-drop", multiple=True, metavar="NAME", help="Take a capability away.")
@click.option("-d", "--detach", is_flag=True, help="Go on in the background; print the container's id.")
@click.option("--entrypoint", metavar="COMMAND", help="Instead of the service's entrypoint.")
@click.option("-e", "--env", "env", multiple=True, metavar="NAME=VALUE", help="Set an environment variable.")
@click.option("--env-from-file", "env_files", multiple=True, metavar="FILE", help="Set the variables of a file.")
@click.option("-i", "--interactive/--no-interactive", default=True, help="Pass on what is typed (default).")
@click.option("-l", "--label", "--labels", "labels", multiple=True, metavar="NAME=VALUE", help="Set a label.")
@click.option("--name", metavar="NAME", help="The container's name.")
@click.option("-T", "--no-tty/--tty", "--no-TTY/-t", "no_tty", default=None, help=_NO_TTY)
@click.option("--no-deps", is_flag=True, help="Not the services that it depends on.")
@click.option("--locked", is_flag=True, help="The image of stack.lock, by its digest.")
@click.option("-p", "--publish", multiple=True, metavar="PORT", help="Publish a port.")
@pull_option()
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of what is done.")
@click.option("--quiet-build", is_flag=True, help="No output of builds.")
@click.option("--quiet-pull", is_flag=True, help="No progress of fetched images.")
@click.option("--remove-orphans", is_flag=True, help="Remove containers of services that the file no longer has.")
@click.option("--rm", "remove", is_flag=True, help="Remove the container when it has ended.")
@click.option("-P", "--service-ports", is_flag=True, help="Publish the ports of the service.")
@click.option("--use-aliases", is_flag=True, help="Let others find it by the names of the service.")
@click.option("-u", "--user", metavar="USER", help="Run as this user.")
@click.option(
    "-v", "--volume", "--volumes", "volumes", multiple=True, metavar="VOLUME", help="Mount a path or a volume."
)
@click.option("-w", "--workdir", metavar="DIR", help="Run in this directory.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: yes.")
@dry_run_option
@click.argument("service")
@click.argument("words", nargs=-1, metavar="[COMMAND] [ARGS]...", type=click.UNPROCESSED)
@click.pass_obj
def command(
    invocation: Invocation,
    build: bool,
    cap_add: tuple[str, ...],
    cap_drop: tuple[str, ...],
    detach: bool,
    entrypoint: str | None,
    env: tuple[str, ...],
    env_files: tuple[str, ...],
    interactive: bool,
    labels: tuple[str, ...],
    name: str | None,
    no_tty: bool | None,
    no_deps: bool,
    publish: tuple[str, ...],
    locked: bool,
    pull: str | None,
    quiet: bool,
    quiet_build: bool,
    quiet_pull: bool,
    remove_orphans: bool,
    remove: bool,
    service_ports: bool,
    use_aliases: bool,
    user: str | None,
    volumes: tuple[str, ...],
    workdir: str | None,
    yes: bool,
    service: str,
    words: tuple[str, ...],
) -> int:
    """Run a one-off container of a service; the exit code is the container's."""
    from orchestrator.actions.plan import check_stack
    from orchestrator.actions.run import RunOptions, prepare_run, run_oneoff
    from orchestrator.cli.progress import leave_out
    from orchestrator.supervision.client import Session

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if no_tty is False and interactive and not (detach or sys.stdin.isatty()):
        raise InputIsNoTerminal(
            "cannot attach stdin to a TTY-enabled container because stdin is not a terminal",
            hint="leave --tty out, or give it no input with --no-interactive",
        )
    policy, build = read_pull(pull, build=build)
    options = RunOptions(
        service=service,
        command=words,
        entrypoint=entrypoint,
        environment=env,
        env_files=env_files,
        labels=labels,
        volumes=volumes,
        publish=publish,
        cap_add=cap_add,
        cap_drop=cap_drop,
        user=user,
        workdir=workdir,
        name=name,
        tty=terminal if no_tty is None else not no_tty,
        stdin=interactive,
        detach=detach,
        remove=remove,
        service_ports=service_ports,
        use_aliases=use_aliases,
        dependencies=not no_deps,
        remove_orphans=remove_orphans,
        build=build,
        pull=policy or "policy",
    )
    project = invocation.load_to_act((service,), naming=env, yes=yes)
    if locked:
        from orchestrator.actions.lock import hold_to_lock

        project = hold_to_lock(project)
        # A digest cannot move; what has none must not be replaced.
        options = options.replace(pull="policy") if pull == "always" else options
    wanted = prepare_run(project, options)
    if invocation.dry_run:
        from orchestrator.cli.rehearsal import rehearse

        show_plan(invocation, wanted.goal)
        rehearse(invocation, "run", [wanted.name])
        return 0
    wanted = wanted.replace(goal=invocation.limit(wanted.goal))
    engine = invocation.engine()
    engine.require_access(starting=True)
    check_stack(engine, wanted.goal.replace(stack=wanted.stack))
    hide = ["rest container", *(("pull image",) if quiet_pull else ()), *(("build image",) if quiet_build else ())]
    if quiet:
        invocation.progress = "quiet"
    with Session(project.name, prepared=invocation.prepared) as session:

        def make_ready(goal: Goal) -> None:
            with invocation.screen("run") as screen:
                _converge(session, goal, leave_out(screen, hide), engine)

        def start(goal: Goal) -> None:
            outcome = session.converge(goal, lambda _event: None)
            # Not kept open while the container runs: nobody would read what the supervisor has to say.
            session.finish()
            if not outcome.converged:
                raise report_failures(outcome.failures, goal.stack)

        def query_provided() -> Mapping[str, Mapping[str, str]]:
            answer = session.ask("provided", "provided")
            return answer["provided"] if answer else {}

        code, container = run_oneoff(engine, wanted, make_ready, start, query_provided)
    if detach:
        print(container.id)
    return code


def _converge(session: Session, goal: Goal, sink: Sink, engine: Engine) -> None:
    from orchestrator.actions.converge import call_off

    try:
        outcome = session.converge(goal, sink)
    except KeyboardInterrupt:
        interrupted = call_off(session, goal, engine, sink)
        session.finish()
        raise interrupted from None
    if not outcome.converged:
        session.finish()
        raise report_failures(outcome.failures, goal.stack)

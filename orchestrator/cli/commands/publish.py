"""``stack publish``"""

from __future__ import annotations

import sys
import time

import click

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, stack_command
from orchestrator.events import Event


@stack_command("publish")
@click.argument("repository", metavar="REPOSITORY[:TAG]")
@click.option("--app", is_flag=True, help="The images that services name, too.")
@click.option("--insecure-registry", "insecure", is_flag=True, help="A registry without TLS that can be verified.")
@click.option("--oci-version", type=click.Choice(["1.0", "1.1"]), help="The form (default: the latest it takes).")
@click.option("--resolve-image-digests", "digests", is_flag=True, help="With the digest of every image.")
@click.option("--with-env", is_flag=True, help="With environment variables and env files.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: yes.")
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    repository: str,
    app: bool,
    insecure: bool,
    oci_version: str | None,
    digests: bool,
    with_env: bool,
    yes: bool,
) -> None:
    """Send the stack files to a registry. They are run from there with: stack -f oci://REPOSITORY[:TAG] up"""
    from orchestrator.actions.publish import prepare_publication, send_publication
    from orchestrator.cli.pushing import push_services
    from orchestrator.cli.rehearsal import open_rehearsal

    publication = prepare_publication(
        invocation.project,
        with_env=with_env,
        resolve_digests=digests or app,
        agree=lambda project: invocation.agree(project, yes=yes),
    )
    for question in () if yes else publication.questions:
        _confirm(question)
    push_services(invocation, publication.stack, (), ignore_failures=True)
    digest = ""
    with open_rehearsal(invocation) if invocation.dry_run else invocation.screen("publish") as screen:
        told = Event(time=time.time(), kind="operation", subject=repository, verb="publish", phase="started")
        screen(told)
        if not invocation.dry_run:
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            digest = send_publication(
                publication, repository, insecure=insecure, version=oci_version or "", app=app, created=created
            )
        screen(told.replace(time=time.time(), phase="done"))
    if digest:
        print(digest)


def _confirm(question: str) -> None:
    """Ask, on a terminal or through a pipe. Raises PublishDeclined for anything but a yes."""
    from orchestrator.actions.publish import PublishDeclined

    print(f"{question} [y/N]: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not sys.stdin.isatty():
        print(file=sys.stderr)
    if answer.strip().lower() not in ("y", "yes"):
        raise PublishDeclined("nothing has been published", hint="publish without being asked with --yes")

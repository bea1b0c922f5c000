"""``stack publish``"""

from __future__ import annotations

import sys
import time

import click

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, stack_command


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

    publication = prepare_publication(invocation.project, with_env=with_env, resolve_digests=digests or app)
    for question in publication.questions:
        _confirm(question, yes=yes or invocation.dry_run)
    push_services(invocation, publication.stack, (), ignore_failures=True)
    if invocation.dry_run:
        for name, *_rest in publication.files:
            print(f"publish {name} to {repository}")
        return
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    digest = send_publication(
        publication, repository, insecure=insecure, version=oci_version or "", app=app, created=created
    )
    print(f"{repository} published")
    print(digest)


def _confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal. Raises PublishRefused for a no, and where nobody can be asked."""
    from orchestrator.actions.publish import PublishRefused

    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise PublishRefused(question, hint="publish all the same with --yes")
    print(question, file=sys.stderr)
    if not click.confirm("Publish that?", default=False, err=True):
        raise PublishRefused("nothing has been published")

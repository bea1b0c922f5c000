"""``stack image login | logout``"""

from __future__ import annotations

import sys

import click

from orchestrator.actions import images as actions
from orchestrator.cli.options import stack_command
from orchestrator.errors import UsageError

_HUB = "docker.io"


@stack_command("login")
@click.argument("host", required=False, default=_HUB, metavar="[HOST[:PORT]]")
@click.option("-u", "--username", metavar="NAME", help="The user name (asked for if missing).")
@click.option("-p", "--password", help="The password; others on this machine can see it there.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def log_in(host: str, username: str | None, password: str | None, password_stdin: bool) -> None:
    """Log in to a registry (Docker Hub without a name); the login is stored where docker stores it."""
    from orchestrator.engines.native.images.credentials import Credential
    from orchestrator.engines.native.images.login import log_in

    if password_stdin and password is not None:
        raise UsageError("stack image login: --password and --password-stdin exclude each other")
    if password_stdin:
        if username is None:
            raise UsageError("stack image login: --password-stdin needs --username")
        password = sys.stdin.read().rstrip("\r\n")
    if (username is None or password is None) and not sys.stdin.isatty():
        raise UsageError(
            "stack image login: there is no terminal to ask on", hint="use --username and --password-stdin"
        )
    username = username or click.prompt("Username", err=True)
    password = password if password is not None else click.prompt("Password", hide_input=True, err=True)
    settings = actions.open_image_store().load_settings()
    place = log_in(settings, _strip(host), Credential(username, password))
    sys.stdout.write(f"Login succeeded; it is stored in {place}\n")


@stack_command("logout")
@click.argument("host", required=False, default=_HUB, metavar="[HOST[:PORT]]")
def log_out(host: str) -> None:
    """Forget the login of a registry."""
    from orchestrator.engines.native.images.login import log_out

    known = log_out(_strip(host))
    sys.stdout.write(f"Removed the login for {host}\n" if known else f"No login for {host} was stored in the file\n")


def _strip(host: str) -> str:
    """The host of what people paste: ``https://host/v2/`` and the like."""
    return host.partition("://")[2].partition("/")[0] if "://" in host else host.rstrip("/")

"""``stack config``"""

from __future__ import annotations

import sys

import click

from orchestrator.actions.names import select_services
from orchestrator.actions.project import load_project
from orchestrator.cli.diagnostics import report_diagnostics
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import services_argument, stack_command
from orchestrator.errors import StackError
from orchestrator.model import Stack


@stack_command("config")
@services_argument
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", help="yaml or json.")
@click.option("-q", "--quiet", is_flag=True, help="Only check.")
@click.option("-o", "--output", metavar="FILE", help="Write to a file.")
@click.option("--services", "show", flag_value="services", help="Only the names of services.")
@click.option("--volumes", "show", flag_value="volumes", help="Only the names of volumes.")
@click.option("--networks", "show", flag_value="networks", help="Only the names of networks.")
@click.option("--images", "show", flag_value="images", help="Only the images.")
@click.option("--profiles", "show", flag_value="profiles", help="Only the names of profiles.")
@click.option(
    "--environment", "show", flag_value="environment", help="Only the variables that can be used in the file."
)
@click.option("--hash", "hashes", metavar="SERVICES", help="Only digests of services: `*`, or names with commas.")
@click.option("--no-interpolate", is_flag=True, help="Leave variables as they are.")
@click.option("--no-normalize", is_flag=True, help="Do not fill in what follows from the rest.")
@click.option("--no-path-resolution", is_flag=True, help="Leave paths relative.")
@click.option("--no-env-resolution", is_flag=True, help="Leave env_file as it is.")
@click.option("--no-consistency", is_flag=True, help="Do not check whether the parts fit together.")
@click.pass_obj
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    form: str,
    quiet: bool,
    output: str | None,
    show: str | None,
    hashes: str | None,
    no_interpolate: bool,
    no_normalize: bool,
    no_path_resolution: bool,
    no_env_resolution: bool,
    no_consistency: bool,
) -> None:
    """Show the stack file as it is understood: merged, interpolated, in its canonical form."""
    options = invocation.project
    if show == "profiles":
        # A profile that is off keeps its services out of the model, and with them its name.
        options = options.replace(profiles=("*",))
    project = load_project(
        options,
        services,
        interpolate=not no_interpolate,
        normalize=not no_normalize,
        resolve_paths=not no_path_resolution,
        resolve_env=not no_env_resolution,
        consistency=not no_consistency,
    )
    report_diagnostics(project.warnings)
    stack = project.stack
    assert stack is not None
    if services:
        select_services(services, stack.services, disabled=stack.disabled)
    if quiet:
        return
    if hashes is not None:
        text = _list_hashes(stack, hashes)
    elif show == "environment":
        text = "".join(f"{name}={value}\n" for name, value in sorted(project.environment.items()))
    elif show:
        text = "".join(f"{name}\n" for name in _list_names(stack, show))
    else:
        text = _render(stack, services, form, escape=not no_interpolate)
    if output is None:
        sys.stdout.write(text)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StackError(f"cannot write {output}: {error.strerror}") from error


def _list_names(stack: Stack, show: str) -> list[str]:
    if show == "images":
        return sorted({one.image or f"{stack.name}-{one.name}" for one in stack.services.values()})
    if show == "profiles":
        return sorted({name for one in stack.services.values() for name in one.profiles})
    names: dict[str, list[str]] = {
        "services": sorted(stack.services),
        "volumes": sorted(stack.volumes),
        "networks": sorted(stack.networks),
    }
    return names[show]


def _list_hashes(stack: Stack, asked: str) -> str:
    from orchestrator.actions.file_digests import read_file_digests
    from orchestrator.digest import config_hash

    wanted = () if asked == "*" else tuple(word for word in asked.split(",") if word)
    names = select_services(wanted, stack.services, disabled=stack.disabled)
    files = read_file_digests(stack)
    return "".join(f"{name} {config_hash(stack.services[name], stack, files)}\n" for name in names)


def _render(stack: Stack, services: tuple[str, ...], form: str, *, escape: bool) -> str:
    from orchestrator.actions.names import resolve_dependencies
    from orchestrator.spec.render import render_json, render_yaml

    tree = dict(stack.tree)
    if services:
        kept = resolve_dependencies(stack, services)
        tree["services"] = {name: value for name, value in tree["services"].items() if name in kept}
    if form == "json":
        return render_json(tree, escape=escape) + "\n"
    return render_yaml(tree, escape=escape)

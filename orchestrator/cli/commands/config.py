"""``stack config``"""

from __future__ import annotations

import sys
from typing import Any

from orchestrator.cli.declare import Choice, Option, declare
from orchestrator.cli.diagnostics import FORMS, report_diagnostics, set_form
from orchestrator.cli.invocation import Invocation
from orchestrator.errors import UsageError

_LISTS = ("services", "volumes", "networks", "images", "models", "profiles")
_PARTS = ("schema", *(f"list_{kind}" for kind in _LISTS), "hashes", "variables", "environment")


@declare(
    "config",
    Option("--format", "form", kind=Choice("yaml", "json"), help="yaml (default) or json."),
    Option("-q", "--quiet", flag=True, help="Only check."),
    Option("-o", "--output", metavar="FILE", help="Write to a file."),
    Option("--services", "list_services", flag=True, help="Only the names of services."),
    Option(
        "--filter",
        "filters",
        multiple=True,
        metavar="KEY=VALUE",
        help="Of the services only those with profile=NAME, label=KEY or label=KEY=VALUE.",
    ),
    Option("--volumes", "list_volumes", flag=True, help="Only the names of volumes."),
    Option("--networks", "list_networks", flag=True, help="Only the names of networks."),
    Option("--images", "list_images", flag=True, help="Only the images."),
    Option("--models", "list_models", flag=True, help="Only the models."),
    Option("--profiles", "list_profiles", flag=True, help="Only the names of profiles."),
    Option("--variables", flag=True, help="Only the variables that the files name, with their defaults."),
    Option("--environment", flag=True, help="Only the variables that can be used in the files, with their values."),
    Option("--hash", "hashes", metavar="SERVICES", help="Only digests of services: `*`, or names with commas."),
    Option("--no-interpolate", flag=True, help="Leave variables as they are."),
    Option("--no-normalize", flag=True, help="Do not fill in what follows from the rest."),
    Option("--no-path-resolution", flag=True, help="Leave paths relative."),
    Option("--no-env-resolution", flag=True, help="Leave env_file as it is."),
    Option("--no-consistency", flag=True, help="Do not check whether the parts fit together."),
    Option("--resolve-image-digests", flag=True, help="Pin images to their digests."),
    Option("--lock-image-digests", flag=True, help="Only the pinned images, as an override file."),
    Option("--diagnostics", kind=Choice(*FORMS), help="How errors and warnings are written: text, json or github."),
    Option("--schema", flag=True, help="Print the JSON Schema of stack files, for editors."),
)
def command(invocation: Invocation, services: tuple[str, ...], output: str | None, **asked: Any) -> None:
    """Show the stack file as it is understood: merged, interpolated, in its canonical form."""
    if asked["diagnostics"]:
        set_form(asked["diagnostics"])
    parts = [part for part in _PARTS if asked[part]]
    if len(parts) > 1:
        words = [f"--{part.removeprefix('list_').replace('hashes', 'hash')}" for part in parts]
        raise UsageError(f"{' and '.join(words)} exclude each other", hint="ask for one at a time")
    # What was warned of has to be warned of again, and what goes elsewhere has to be written again.
    asked["keep"] = output is None and not asked["quiet"]
    text = _render(invocation, services, parts[0] if parts else "", asked)
    if asked["quiet"]:
        return
    if output is None:
        sys.stdout.write(text)
    else:
        _write_file(output, text)


def _render(invocation: Invocation, services: tuple[str, ...], part: str, asked: dict[str, Any]) -> str:
    """All of the text, before any of it is written: what is wrong leaves no half of a model behind."""
    from orchestrator.actions import config

    if part == "schema":
        return config.read_schema()
    unfiltered = "--variables" if part == "variables" else "--no-interpolate" if asked["no_interpolate"] else ""
    if services and unfiltered:
        print(f"warning: service filtering is not applied when {unfiltered} is set", file=sys.stderr)
        services = ()
    if part == "variables":
        return _render_variables(config.list_variables(invocation.project), asked["form"])
    from orchestrator.actions.container_names import find_shared_names
    from orchestrator.actions.project import load_watched
    from orchestrator.spec.faults import find_faults

    options = invocation.project
    if part == "list_profiles":
        # A profile that is off keeps its services out of the model, and with them its name.
        options = options.replace(profiles=("*",))
    filters = config.read_filters(asked["filters"], listed=part == "list_services")
    if filters:
        # What has a profile is not there unless that is on.
        options = options.replace(profiles=(*options.profiles, *(value for key, value in filters if key == "profile")))
    if asked["no_consistency"] and part in ("list_volumes", "list_networks", "list_models"):
        # Who uses what is a question of consistency, too.
        options = options.replace(all_resources=True)
    # The digest of a service is that of the whole model: what is left out of the model does not change it.
    passes = {} if part == "hashes" else asked
    seen: dict[str, Any] = {}
    project = load_watched(
        options,
        (*services, *_name_services(asked["hashes"])),
        seen,
        interpolate=not passes.get("no_interpolate"),
        normalize=not passes.get("no_normalize"),
        resolve_paths=not passes.get("no_path_resolution"),
        # The values of an env file may name variables, which are left alone then.
        resolve_env=not (passes.get("no_env_resolution") or passes.get("no_interpolate")),
        consistency=not asked["no_consistency"],
    )
    stack = project.stack
    assert stack is not None
    warnings = list(project.warnings)
    if not (asked["no_consistency"] or asked["no_interpolate"] or asked["no_normalize"]):
        # What no engine could run is no reason to keep the model back: `up` refuses it with the same words.
        shared = find_shared_names(stack, severity="warning")
        faults = find_faults(stack.tree, stack.sources.locate, severity="warning")
        warnings += [*(one for _, one in faults), *shared]
        if _names_cluster(stack.tree):
            from orchestrator.engines.native.swarm import find_ignored

            warnings += find_ignored(stack)
    report_diagnostics(warnings)
    tree = config.restrict_tree(stack, services)
    if filters:
        tree = config.filter_services(tree, filters)
    if part == "hashes":
        return "".join(f"{name} {digest}\n" for name, digest in config.list_hashes(stack, asked["hashes"]))
    if part == "environment":
        return "".join(f"{name}={value}\n" for name, value in sorted(project.environment.items()))
    if asked["resolve_image_digests"] or asked["lock_image_digests"]:
        # Registries are asked by names that the files have put together.
        invocation.agree(project)
        tree = config.pin_images(tree, stack)
        return _render_tree(config.keep_images(tree) if asked["lock_image_digests"] else tree, asked)
    if part:
        shown = stack.tree if part == "list_profiles" else tree
        text = "".join(f"{name}\n" for name in config.list_names(shown, part.removeprefix("list_"), stack.separator))
    else:
        text = _render_tree(tree, asked)
    if asked["keep"] and not warnings:
        from orchestrator.cli.recalled import keep_output

        keep_output(text, seen)
    return text


def _names_cluster(tree: Any) -> bool:
    """Whether there may be something to say about attributes that are for a cluster."""
    return any("deploy" in one for one in tree["services"].values()) or "secrets" in tree or "configs" in tree


def _name_services(hashes: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (hashes or "").split(",") if word.strip() not in ("", "*"))


def _render_tree(tree: Any, asked: dict[str, Any]) -> str:
    from orchestrator.spec.render import render_json, render_yaml

    escape = not asked["no_interpolate"]
    return render_json(tree, escape=escape) + "\n" if asked["form"] == "json" else render_yaml(tree, escape=escape)


def _render_variables(variables: Any, form: str | None) -> str:
    if form is None:
        from orchestrator.cli.table import render_table

        rows = [
            (one.name, "true" if one.required else "false", _on_one_line(one.default), _on_one_line(one.alternate))
            for one in variables
        ]
        return render_table(("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"), rows)
    tree = {
        one.name: {
            "Name": one.name,
            "DefaultValue": one.default or "",
            "PresenceValue": one.alternate or "",
            "Required": one.required,
        }
        for one in variables
    }
    if form == "yaml":
        from orchestrator.spec.render import render_yaml

        text = ""
        for name, one in tree.items():
            text += render_yaml({name: None}, escape=False).removesuffix(" null\n") + "\n"
            for key, value in one.items():
                text += "".join(
                    f"    {line}\n" for line in render_yaml({key.lower(): value}, escape=False).splitlines()
                )
        return text or "{}\n"
    import json

    return json.dumps(tree, indent=4, ensure_ascii=False) + "\n"


def _on_one_line(text: str | None) -> str:
    return (text or "").replace("\n", "\\n")


def _write_file(output: str, text: str) -> None:
    from orchestrator.errors import StackError

    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StackError(f"cannot write {output}: {error.strerror}") from error

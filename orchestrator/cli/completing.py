"""What the shell offers for a word: services, profiles, projects and images by name, beside click's own options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from click.shell_completion import CompletionItem

from orchestrator.cli.shells import SHELLS
from orchestrator.errors import StackError
from orchestrator.state import STATUSES

if TYPE_CHECKING:
    import click

    from orchestrator.actions.project import Project, ProjectOptions

Offer = Callable[["click.Context", str], list[CompletionItem]]


def complete(root: click.Command, instruction: str) -> int:
    """Answer the shell's question, which stands in the environment; return the exit code.

    `instruction` is ``SHELL_complete``, or ``SHELL_source`` for the script.
    """
    shell, _, wanted = instruction.partition("_")
    kind = SHELLS.get(shell)
    if kind is None or wanted not in ("complete", "source"):
        return 1
    teach(root)
    asked = kind(root, {}, "stack", "_STACK_COMPLETE")
    print(asked.complete() if wanted == "complete" else asked.source_template, end="\n" * (wanted == "complete"))
    return 0


def teach(command: click.Command) -> None:
    """Have the parameters of a command know what they can be."""
    for one in command.params:
        offer = _BY_NAME.get(one.name or "")
        if command.name == "cp" and one.name in ("source", "target"):
            offer = _offer_places
        elif one.metavar in ("IMAGE", "IMAGE...") or (command.name == "tag" and one.name == "source"):
            offer = _offer_images
        elif command.name == "build" and one.name == "paths":
            offer = _offer_folders
        elif one.name == "workdir" and command.name in ("exec", "run"):
            # In the container, which may have any folders.
            offer = None
        if offer is not None:
            # What click's `shell_complete` argument is for, but from one place and only when a shell asks.
            setattr(one, "shell_complete", offer)  # noqa: B010


def _read_options(ctx: click.Context) -> ProjectOptions:
    from orchestrator.cli.invocation import make_invocation

    given: Mapping[str, Any] = ctx.find_root().params
    return make_invocation(
        files=given.get("files") or (),
        project_name=given.get("project_name"),
        profiles=given.get("profiles") or (),
        env_files=given.get("env_files") or (),
        project_directory=given.get("project_directory") or given.get("workdir"),
    ).project


def _load(ctx: click.Context) -> Project | None:
    from orchestrator.actions.project import identify_project, load_project
    from orchestrator.errors import FileMissing

    options = _read_options(ctx)
    try:
        try:
            return load_project(options)
        except FileMissing:
            return identify_project(options)
    except StackError:
        # The shell is no place for an error: whoever presses Return is told.
        return None


def _list_services(ctx: click.Context) -> dict[str, str]:
    """Services by name, those of other profiles too, with a word about each."""
    project = _load(ctx)
    if project is None:
        return {}
    if project.stack is None:
        # Known by its name alone.
        from orchestrator.actions.engine import open_engine

        return {one.service: one.image for one in open_engine().observe(project.name).containers}
    found = {name: service.image or "is built" for name, service in project.stack.services.items()}
    return found | dict.fromkeys(project.stack.disabled, "in a profile that is off")


def _pick(words: Mapping[str, str] | Iterable[str], incomplete: str) -> list[CompletionItem]:
    known = words if isinstance(words, Mapping) else dict.fromkeys(words, "")
    return [CompletionItem(one, help=known[one] or None) for one in sorted(known) if one.startswith(incomplete)]


def _offer_services(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    chosen = ctx.params.get("services") or ()
    return _pick({one: text for one, text in _list_services(ctx).items() if one not in chosen}, incomplete)


def _offer_scales(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return _pick({f"{one}=": text for one, text in _list_services(ctx).items()}, incomplete)


def _offer_places(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """A path of this machine, or in a container of a service: ``web:/etc/...``."""
    service, colon, path = incomplete.partition(":")
    if colon and not service.startswith(("/", ".")):
        return _pick((f"{service}:{one}" for one in _list_paths(ctx, service, path)), incomplete)
    services = _pick({f"{one}:": text for one, text in _list_services(ctx).items()}, incomplete)
    return services or [CompletionItem(incomplete, type="file")]


def _list_paths(ctx: click.Context, service: str, path: str) -> list[str]:
    """What is in the folder that `path` begins with, in a container of `service` that runs."""
    from orchestrator.actions.containers import find_replica
    from orchestrator.actions.engine import open_engine

    folder = path[: path.rfind("/") + 1]
    try:
        project, engine = _load(ctx), open_engine()
        if project is None:
            return []
        one = find_replica(engine, project, service, ctx.params.get("index"))
        return [folder + name for name in engine.list_folder(one, folder or "/")]
    except StackError:
        return []


def _offer_profiles(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    from orchestrator.actions.config import list_names
    from orchestrator.actions.project import load_project

    try:
        stack = load_project(_read_options(ctx).replace(profiles=("*",))).stack
    except StackError:
        return []
    return _pick(list_names(stack.tree, "profiles") if stack is not None else (), incomplete)


def _offer_projects(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    from orchestrator.actions.engine import open_engine

    try:
        return _pick(open_engine().projects(), incomplete)
    except StackError:
        return []


def _offer_images(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    from orchestrator.actions.images import open_image_store
    from orchestrator.engines.native.images.reference import render_familiar

    try:
        images = open_image_store().list_images()
    except StackError:
        return []
    return _pick({render_familiar(one) for image in images for one in image.references}, incomplete)


def _offer_files(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _offer_folders(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]


def _offer_words(*words: str) -> Offer:
    return lambda _ctx, incomplete: _pick(words, incomplete)


def _offer_signals(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    from signal import Signals

    return _pick((one.name for one in Signals), incomplete)


_BY_NAME: Final[Mapping[str, Offer]] = {
    **dict.fromkeys(("service", "services", "attach", "no_attach", "exit_code_from"), _offer_services),
    "scales": _offer_scales,
    "profiles": _offer_profiles,
    "project_name": _offer_projects,
    **dict.fromkeys(("files", "env_files", "env_from_file", "output", "input", "file", "archive", "tar"), _offer_files),
    **dict.fromkeys(("dockerfile", "iidfile", "metadata_file", "given"), _offer_files),
    **dict.fromkeys(("project_directory", "workdir"), _offer_folders),
    "statuses": _offer_words(*STATUSES),
    "signal": _offer_signals,
    "form": _offer_words("json", "table"),
}
"""By the name of a parameter of a command's function."""

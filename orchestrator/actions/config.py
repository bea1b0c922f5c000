"""What ``stack config`` shows: the model or a part of it, and what it was made from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.actions.names import select_services
from orchestrator.errors import Diagnostic, FileMissing, StackError

if TYPE_CHECKING:
    from orchestrator.actions.project import ProjectOptions
    from orchestrator.model import Stack
    from orchestrator.spec.interpolate import Variable
    from orchestrator.spec.positions import Map

_SECTIONS = ("networks", "volumes", "secrets", "configs", "models")


class NoDigest(StackError):
    """Images of the stack whose digest neither the local store nor a registry tells."""

    code = "no-digest"


class BadFilter(StackError):
    """What services are to be listed by does not make sense."""

    code = "bad-filter"


def restrict_tree(stack: Stack, services: Sequence[str]) -> Map:
    """Return the canonical tree of `services`, what they depend on and what they use; all of it without any names."""
    from orchestrator.spec.merge import copy_map
    from orchestrator.spec.normalize import prune_resources
    from orchestrator.spec.positions import Map

    whole = stack.tree
    assert type(whole) is Map
    if not services:
        return whole
    select_services(services, whole["services"], disabled=stack.disabled)
    kept: set[str] = set()
    waiting = list(services)
    while waiting:
        name = waiting.pop()
        if name not in kept and name in whole["services"]:
            kept.add(name)
            waiting.extend(whole["services"][name].get("depends_on") or ())
    tree = copy_map(whole)
    chosen = tree["services"] = Map()
    for name in sorted(kept):
        chosen.put(name, whole["services"][name], whole["services"].marks[name])
    prune_resources(tree, chosen)
    for section in _SECTIONS:
        if section in tree and not tree[section]:
            del tree[section]
    return tree


def read_filters(words: Sequence[str], *, listed: bool) -> tuple[tuple[str, str], ...]:
    """Return the criteria ``profile=NAME`` and ``label=KEY[=VALUE]``; `listed` says that services are listed."""
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        if not listed:
            raise BadFilter("--filter requires --services", hint="it says which services are listed")
        if key not in ("profile", "label"):
            raise BadFilter(f'unknown criteria "{key}"', hint="write profile=NAME or label=KEY=VALUE")
        if not equals or not value:
            raise BadFilter(f"--filter {word} has no value", hint="write profile=NAME or label=KEY=VALUE")
        if key == "profile" and value == "*":
            raise BadFilter("profiles must be selected explicitly", hint="`config --profiles` lists them")
        found.append((key, value))
    return tuple(found)


def filter_services(tree: Map, filters: Sequence[tuple[str, str]]) -> Map:
    """Return `tree` with the services alone that fit all of `filters`."""
    from orchestrator.spec.merge import copy_map

    kept = copy_map(tree)
    services = kept["services"] = copy_map(tree["services"])
    for name, service in tree["services"].items():
        if not all(_fits(service, key, value) for key, value in filters):
            del services[name]
    return kept


def _fits(service: Mapping[str, Any], key: str, value: str) -> bool:
    if key == "profile":
        return value in (service.get("profiles") or ())
    name, equals, wanted = value.partition("=")
    labels: Mapping[str, Any] = service.get("labels") or {}
    return name in labels and (not equals or labels[name] == wanted)


def list_names(tree: Mapping[str, Any], kind: str, separator: str = "-") -> list[str]:
    """Return the sorted names of `kind`: services, volumes, networks, models, profiles or images of a canonical tree.

    Of a model it is the name of the model, not its key; a service without an image has the one that it builds, whose
    name is the project's, `separator` and its own.
    """
    services: Mapping[str, Mapping[str, Any]] = tree.get("services") or {}
    if kind == "images":
        project = tree.get("name", "")
        return sorted(
            {
                service.get("image") or f"{project}{separator}{name}"
                for name, service in services.items()
                if "provider" not in service
            }
        )
    if kind == "profiles":
        return sorted({name for service in services.values() for name in service.get("profiles") or ()})
    if kind == "models":
        return sorted({model["model"] for model in (tree.get("models") or {}).values() if model.get("model")})
    return sorted(tree.get(kind) or ())


def list_hashes(stack: Stack, asked: str) -> list[tuple[str, str]]:
    """Return names and configuration digests of services: all for ``*``, else the names with commas in `asked`."""
    from orchestrator.actions.file_digests import read_file_digests
    from orchestrator.digest import config_hash

    wanted = () if asked == "*" else tuple(word.strip() for word in asked.split(",") if word.strip())
    names = select_services(wanted, stack.services, disabled=stack.disabled)
    files = read_file_digests(stack)
    return [(name, config_hash(stack.services[name], stack, files)) for name in sorted(names)]


def list_variables(options: ProjectOptions) -> list[Variable]:
    """Return the variables that the stack files name, sorted. Raises as loading does."""
    from orchestrator.actions.project import make_reader
    from orchestrator.spec.loader import LoadOptions, load_variables

    asked = LoadOptions(
        files=options.files,
        project_name=options.name,
        profiles=options.profiles,
        env_files=options.env_files,
        project_directory=options.directory,
        interpolate=False,
        cwd=os.getcwd(),
    )
    return load_variables(asked, os.environ, make_reader())


def pin_images(tree: Map, stack: Stack) -> Map:
    """Return `tree` with the digest of every image: the local image's, else the registry's.

    Raises NoDigest, with a diagnostic at the line of every image that has none.
    """
    from orchestrator.spec.merge import copy_map

    wanted = {
        (service["image"], service.get("platform")): name
        for name, service in reversed(tree["services"].items())
        if service.get("image")
    }
    pinned, failures = _resolve_digests(list(wanted))
    if failures:
        raise NoDigest(
            f"{len(failures)} of {len(wanted)} images have no digest",
            diagnostics=[
                Diagnostic(
                    error.code,
                    error.message,
                    stack.sources.locate(("services", wanted[key], "image")),
                    f"services.{wanted[key]}.image",
                    error.hint,
                )
                for key, error in sorted(failures.items(), key=lambda item: wanted[item[0]])
            ],
        )
    result = copy_map(tree)
    services = result["services"] = copy_map(tree["services"])
    for name, service in tree["services"].items():
        if service.get("image"):
            services[name] = copy_map(service)
            services[name]["image"] = pinned[service["image"], service.get("platform")]
    return result


_Wanted = tuple[str, str | None]


def _resolve_digests(wanted: Sequence[_Wanted]) -> tuple[dict[_Wanted, str], dict[_Wanted, StackError]]:
    from concurrent.futures import ThreadPoolExecutor

    from orchestrator.actions.images import open_image_store
    from orchestrator.engines.native.images.digests import pin_reference

    store = open_image_store()
    found: dict[_Wanted, str] = {}
    failures: dict[_Wanted, StackError] = {}

    def resolve(one: _Wanted) -> None:
        try:
            found[one] = pin_reference(store, *one)
        except StackError as error:
            failures[one] = error

    with ThreadPoolExecutor(max_workers=4) as pool:
        for done in [pool.submit(resolve, one) for one in wanted]:
            done.result()
    return found, failures


def keep_images(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree with nothing but the images of services: an override file that pins them."""
    services = tree["services"]
    return {"services": {name: {"image": services[name]["image"]} for name in services if services[name].get("image")}}


def read_schema() -> str:
    """Return the text of the JSON Schema of stack files. Raises FileMissing if this installation lacks it."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for folder in (package, os.path.dirname(package)):
        try:
            with open(os.path.join(folder, "schemas", "stack.schema.json"), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            continue
    raise FileMissing("this installation of stack lacks its schema", hint="install it again")

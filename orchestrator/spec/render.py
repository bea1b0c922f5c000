"""Canonical text of a model: keys sorted, dollar signs doubled so that the text is a stack file again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The reference's JSON shows these with a capital letter, its YAML does not.
_JSON_NAMES = {"path": "Path", "rate": "Rate", "weight": "Weight"}


def render_json(tree: Mapping[str, Any], *, escape: bool = True, indent: int | None = 2) -> str:
    """Render a canonical tree as JSON, as ``stack config --format json`` prints it; ends without a line break.

    With `escape`, every ``$`` is written ``$$`` (off when interpolation is off).
    """
    import json

    text = json.dumps(_rename(tree), indent=indent, sort_keys=True, ensure_ascii=False, default=str)
    return text.replace("$", "$$") if escape else text


def _rename(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    services = tree.get("services") or {}
    if not any("blkio_config" in service for service in services.values()):
        return tree
    renamed = {}
    for name, service in services.items():
        config = service.get("blkio_config")
        if config is not None:
            service = {**service, "blkio_config": {key: _rename_devices(value) for key, value in config.items()}}
        renamed[name] = service
    return {**tree, "services": renamed}


def _rename_devices(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [{_JSON_NAMES.get(key, key): item for key, item in device.items()} for device in value]


def render_yaml(tree: Mapping[str, Any], *, escape: bool = True) -> str:
    """Render a canonical tree as YAML, as ``stack config`` prints it: ``command`` and ``entrypoint`` only where set."""
    import yaml

    text = yaml.dump(
        _plain(tree),
        Dumper=_make_dumper(),
        sort_keys=True,
        allow_unicode=True,
        default_flow_style=False,
        width=1 << 30,
    )
    return text.replace("$", "$$") if escape else text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        unset = ("command", "entrypoint")
        return {key: _plain(item) for key, item in value.items() if not (item is None and key in unset)}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _make_dumper() -> Any:
    import yaml

    class Dumper(yaml.CSafeDumper):
        """Writes strings that YAML 1.2 or 1.1 readers would take for something else in quotes."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent_text(dumper: Any, text: str) -> Any:
        from orchestrator.spec.scalars import resolve_scalar

        if "\n" in text:
            return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
        style = '"' if not isinstance(resolve_scalar(text), str) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent_text)
    return Dumper

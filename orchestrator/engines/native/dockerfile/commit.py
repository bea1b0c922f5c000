"""A finished stage becomes an image: configuration, history, and the entry in the store. `render_configuration` is
pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.native.dockerfile.cache import FIELD
from orchestrator.engines.native.dockerfile.stage_work import makes_layer
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import StageSteps
    from orchestrator.engines.native.images.platform import Platform

_OWN: Final = ("created", "author", "architecture", "variant", "os", "config", "rootfs", "history")
_DROPPED: Final = (
    "id",
    "parent",
    "container",
    "container_config",
    "docker_version",
    "throwaway",
    "comment",
    "moby.buildkit.cache.v0",
    FIELD,
)
"""Fields of a base image's configuration that say how that image was made."""
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_COMMENT: Final = "buildkit.dockerfile.v0"
"""What tools know entries of a Dockerfile's history by."""


class BuiltStage(Record):
    """A stage of the line that the target stands on, with the time of each step's layer (None: no layer)."""

    steps: StageSteps
    created: tuple[str | None, ...]


def render_configuration(
    line: Sequence[BuiltStage],
    document: Mapping[str, Any],
    layers: Sequence[str],
    *,
    platform: Platform,
    labels: Mapping[str, str],
    epoch: str | None,
    now: str,
    extra: Mapping[str, Any] = _NOTHING,
) -> bytes:
    """The OCI image configuration.

    `line` are the stages from the base image up; `document` the base image's whole configuration (empty for scratch):
    fields that nobody here knows are kept. `layers` are all layer identifiers, base first. `epoch` caps all times that
    are new; `now` is used where no layer has a time.
    """
    inherited = [dict(one) for one in document.get("history") or ()]
    base_layers = len(layers) - sum(one is not None for stage in line for one in stage.created)
    inherited = _fit_history(inherited, base_layers)
    added = [entry for stage in line for entry in _render_history(stage)]
    _fill_times(added, inherited, now)
    config = {key: value for key, value in line[-1].steps.config.items() if value not in (None, "")}
    if labels:
        config["Labels"] = {**(config.get("Labels") or {}), **labels}
    history = [*inherited, *added]
    created = next((one["created"] for one in reversed(history) if one.get("created")), now)
    author = line[-1].steps.author or document.get("author")
    rendered: dict[str, Any] = {
        "architecture": platform.architecture,
        **({"author": author} if author else {}),
        "config": config,
        "created": epoch or created,
        "history": history,
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": list(layers)},
        **({"variant": platform.variant} if platform.variant else {}),
    }
    for key, value in document.items():
        if key not in _OWN and key not in _DROPPED:
            rendered[key] = value
    rendered.update(extra)
    return json.dumps(rendered, separators=(",", ":")).encode("utf-8", "surrogateescape")


def _render_history(stage: BuiltStage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for step, created in zip(stage.steps.steps, stage.created, strict=True):
        if not step.created_by:
            continue
        entry: dict[str, Any] = {"created": created, "created_by": step.created_by, "comment": _COMMENT}
        if not makes_layer(step):
            entry["empty_layer"] = True
        found.append(entry)
    return found


def _fit_history(history: list[dict[str, Any]], layers: int) -> list[dict[str, Any]]:
    """The base's history with exactly as many entries with a layer as it has layers."""
    entries = [one for one in history if not one.get("empty_layer")]
    if len(entries) < layers:
        return [*history, *({"created_by": "", "comment": "unknown"} for _ in range(layers - len(entries)))]
    surplus = len(entries) - layers
    for entry in reversed(entries[len(entries) - surplus :]):
        entry["empty_layer"] = True
    return history


def _fill_times(added: list[dict[str, Any]], inherited: Sequence[Mapping[str, Any]], now: str) -> None:
    """Steps without a layer have the time of the layer before them; before the first one, of that."""
    first = next((one["created"] for one in added if one["created"]), None)
    before = next((one["created"] for one in reversed(inherited) if one.get("created")), None)
    latest = first or before or now
    for entry in added:
        latest = entry["created"] = entry["created"] or latest

"""``--filter`` of images: dangling, reference, label, before, since, until. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.actions.images import parse_created
from orchestrator.actions.moments import parse_moment
from orchestrator.errors import NotFound, UsageError

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image

Test = Callable[["Image"], bool]

KEYS = ("dangling", "reference", "label", "label!", "before", "since", "until")


def select_images(
    images: Sequence[Image],
    filters: Sequence[str],
    now: float,
    *,
    allowed: Sequence[str] = KEYS,
    resolve: Callable[[str], Image | None] = lambda _name: None,
) -> tuple[Image, ...]:
    """Return the images that all filters let through; several of one key are alternatives, except labels.

    `resolve` finds the image that ``before`` and ``since`` name. Raises UsageError, NotFound.
    """
    groups: dict[str, list[Test]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if key not in allowed or not equals:
            raise UsageError(f"--filter: cannot read {text!r}", hint=f"write KEY=VALUE with {', '.join(allowed)}")
        # Each label has to be there; for the rest one of several is enough.
        group = text if key.startswith("label") else key
        groups.setdefault(group, []).append(_make_test(key, value, now, resolve))
    return tuple(one for one in images if all(any(test(one) for test in tests) for tests in groups.values()))


def _make_test(key: str, value: str, now: float, resolve: Callable[[str], Image | None]) -> Test:
    if key == "dangling":
        wanted = _parse_truth(value)
        return lambda image: (not image.references) == wanted
    if key == "reference":
        return lambda image: any(_matches(reference, value) for reference in image.references)
    if key in ("label", "label!"):
        name, equals, text = value.partition("=")
        return lambda image: _has_label(image.config.labels, name, text if equals else None) != (key == "label!")
    if key == "until":
        until = parse_moment(value, now, "--filter until") or 0.0
        return lambda image: parse_created(image.created) < until
    other = resolve(value)
    if other is None:
        raise NotFound(f"No such image: {value}", resource=value, operation=f"filter {key}")
    edge = parse_created(other.created)
    if key == "before":
        return lambda image: parse_created(image.created) < edge
    return lambda image: parse_created(image.created) > edge


def _parse_truth(value: str) -> bool:
    word = value.strip().lower()
    if word not in ("true", "false", "1", "0", "t", "f"):
        raise UsageError(f"--filter: dangling is true or false, not {value!r}")
    return word in ("true", "1", "t")


def _has_label(labels: Mapping[str, str], name: str, value: str | None) -> bool:
    return name in labels and (value is None or labels[name] == value)


def _matches(reference: str, pattern: str) -> bool:
    """Whether a reference matches a pattern, with or without its tag; ``*`` does not cross a slash."""
    import re

    from orchestrator.engines.native.images.reference import render_familiar

    parts = {"*": "[^/]*", "?": "[^/]"}
    wanted = re.compile("".join(parts.get(letter, re.escape(letter)) for letter in pattern))
    familiar = render_familiar(reference)
    forms = (reference, familiar, reference.rpartition(":")[0], familiar.rpartition(":")[0])
    return any(wanted.fullmatch(one) for one in forms)

"""Names and identifiers of images as people read them."""

from __future__ import annotations


def shorten_id(image_id: str) -> str:
    """The first twelve digits of an identifier."""
    return image_id.removeprefix("sha256:")[:12]


def render_reference(reference: str) -> str:
    """A reference without docker.io's host and namespace; an identifier as it is."""
    from orchestrator.engines.native.images.reference import render_familiar

    return reference if reference.startswith("sha256:") else render_familiar(reference)

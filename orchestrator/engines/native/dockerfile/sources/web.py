"""The way to the web that builds use: the same connections, proxies and certificates as the registries'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.engines.native.images.transport import Transport

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite


def open_transport(site: BuildSite) -> Transport:
    """A transport that stops when the build does; the caller closes it."""
    from orchestrator.engines.native.images.registries import load_registry_settings

    settings = site.store.load_settings() if site.store is not None else load_registry_settings()
    return Transport(settings, cancel=site.cancel)

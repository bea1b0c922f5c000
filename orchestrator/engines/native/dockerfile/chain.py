"""Layers on top of each other, and what they are known by. Pure but for looking up directories' names."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.engines.native.images.layers import render_layer_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.layers import LayerStore


class Chain(NamedTuple):
    """A stack of layers. `layers` are identifiers, base first; `lower` their directories, topmost first.

    `identity` stands for exactly these layers in this order: what was made on them is known again by it.
    """

    identity: str
    layers: tuple[str, ...] = ()
    lower: tuple[Path, ...] = ()

    def add(self, layer: str, store: LayerStore, *, alias: str = "") -> Chain:
        """This chain with another layer on top, which need not exist yet. `alias` is what the layer is known as: where
        it was made it may have had another identifier.
        """
        identity = hashlib.sha256(f"{self.identity} {alias or layer}".encode()).hexdigest()
        directory = store.directory(render_layer_name(layer))
        return Chain(identity, (*self.layers, layer), (directory, *self.lower))

    @property
    def names(self) -> tuple[str, ...]:
        """The short names of the directories, base first."""
        return tuple(one.name for one in reversed(self.lower))


SCRATCH = Chain("scratch")


def chain_of_image(image: Image) -> Chain:
    """The chain of an image's layers."""
    return Chain(_hash_layers(image.diff_ids), tuple(image.diff_ids), tuple(image.layers))


def _hash_layers(layers: Sequence[str]) -> str:
    identity = SCRATCH.identity
    for layer in layers:
        identity = hashlib.sha256(f"{identity} {layer}".encode()).hexdigest()
    return identity

"""The digest that a name leads to: the registry's, or that of the image which came from there."""

from __future__ import annotations

import subprocess

import pytest

from orchestrator.engines.native.images.digests import pin_reference
from orchestrator.engines.native.images.failures import ImageMissing
from orchestrator.engines.native.images.store import ImageStore

from .loopback import Registry


def test_a_digest_is_asked_for_and_then_known(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    name = f"{registry.host}/web:1"
    asked = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{name}"]
    digest = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    assert pin_reference(store, name) == f"{name}@{digest}"
    # Asking has fetched nothing.
    assert store.list_images() == ()
    with pytest.raises(ImageMissing):
        pin_reference(store, f"{registry.host}/web:2")
    store.pull(name)
    registry.fill(sample[0], "web:1", "--format", "oci")
    assert pin_reference(store, name) == f"{name}@{digest}"
    pinned = f"{registry.host}/gone@{digest}"
    assert pin_reference(store, pinned) == pinned

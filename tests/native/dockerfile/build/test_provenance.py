"""Where an image comes from, attested beside it in the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from workbench import Bench

from orchestrator.engines.native.dockerfile.provenance import parse_provenance
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout
from orchestrator.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from images.loopback import Registry, start_registry

DOCKERFILE = 'FROM base AS one\nRUN echo a > /a\nFROM base\nARG WHO\nCOPY --from=one /a /b\nLABEL who="$WHO"\n'


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    process, found = start_registry(tmp_path)
    yield found
    process.terminate()
    process.wait(10)


def fetch(registry: Registry, name: str) -> Any:
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/{name}"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def read_blob(registry: Registry, name: str, digest: str) -> Any:
    algorithm, _, value = digest.partition(":")
    place = registry.root / "data/docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"
    assert name
    return json.loads(place.read_bytes())


@pytest.mark.parametrize("mode", ["min", "max"])
def test_it_stands_beside_the_image(bench: Bench, registry: Registry, tmp_path: Path, mode: str) -> None:
    name = f"{registry.host}/web:1"
    bench.build(DOCKERFILE, provenance=mode, args={"WHO": "me"}, tags=(name,))
    pushed = bench.store.push(name)
    image, attestation = fetch(registry, "web:1")["manifests"]
    assert (image["platform"]["os"], attestation["platform"]["os"]) == ("linux", "unknown")
    assert attestation["annotations"]["vnd.docker.reference.digest"] == image["digest"]
    manifest = fetch(registry, f"web@{attestation['digest']}")
    (layer,) = manifest["layers"]
    statement = read_blob(registry, "web", layer["digest"])
    assert statement["subject"][0]["digest"]["sha256"] == image["digest"].removeprefix("sha256:")
    assert statement["predicateType"] == layer["annotations"]["in-toto.io/predicate-type"]
    built = statement["predicate"]["buildDefinition"]
    base = bench.image("base").id.removeprefix("sha256:")
    assert [one["digest"]["sha256"] for one in built["resolvedDependencies"]] == [base]
    told = json.dumps(built)
    assert ("build-arg:WHO" in told, "RUN echo a" in told) == (mode == "max", mode == "max")
    # Whoever only wants the image is not disturbed.
    other = ImageStore(Layout(tmp_path / "other", tmp_path / "run"))
    assert other.pull(name).config.labels == {"who": "me"}
    assert any(one.endswith(pushed) for one in bench.image(name).repo_digests)
    # Nothing of it is an annotation of the image.
    assert "annotations" not in fetch(registry, f"web@{image['digest']}")


def test_without_being_asked_nothing_is_attested(bench: Bench, registry: Registry) -> None:
    name = f"{registry.host}/web:1"
    bench.build("FROM base\nENV A=b\n", provenance="max", tags=(name,))
    bench.build("FROM base\nENV A=b\n", tags=(name,))
    bench.store.push(name)
    assert "manifests" not in fetch(registry, "web:1")


@pytest.mark.parametrize(
    ("text", "mode"),
    [("true", "min"), ("false", ""), ("mode=max", "max"), ("mode=max,disabled=true", ""), ("type=provenance", "min")],
)
def test_what_is_asked_for(text: str, mode: str) -> None:
    assert parse_provenance(text) == mode


@pytest.mark.parametrize("text", ["perhaps", "mode=most", "version=v0.2", "type=sbom", "builder-id=x"])
def test_what_cannot_be_asked_for(text: str) -> None:
    with pytest.raises(UsageError):
        parse_provenance(text)

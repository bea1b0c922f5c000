from __future__ import annotations

import pytest

from orchestrator.engines.native.images.failures import InvalidReference
from orchestrator.engines.native.images.reference import parse_reference

_DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("web", "docker.io/library/web:latest", "web:latest"),
        ("web:1.2", "docker.io/library/web:1.2", "web:1.2"),
        ("team/web", "docker.io/team/web:latest", "team/web:latest"),
        ("docker.io/web", "docker.io/library/web:latest", "web:latest"),
        ("index.docker.io/team/web:2", "docker.io/team/web:2", "team/web:2"),
        ("localhost/web", "localhost/web:latest", "localhost/web:latest"),
        ("localhost:5000/web", "localhost:5000/web:latest", "localhost:5000/web:latest"),
        ("registry.test/a/b_c/d--e:v1", "registry.test/a/b_c/d--e:v1", "registry.test/a/b_c/d--e:v1"),
        ("[::1]:5000/web", "[::1]:5000/web:latest", "[::1]:5000/web:latest"),
        (f"web@{_DIGEST}", f"docker.io/library/web@{_DIGEST}", f"web@{_DIGEST}"),
        (f"web:1@{_DIGEST}", f"docker.io/library/web:1@{_DIGEST}", f"web:1@{_DIGEST}"),
    ],
)
def test_completes(text: str, canonical: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == canonical
    assert reference.familiar == familiar
    assert parse_reference(canonical) == reference


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "web:", "-web", "web-", "a//b", "web:.x", "web@sha256:12", "a b", "a/..", "a___b", "a..b"),
        *("host:99999/web", "web@md5:" + "a" * 32, "x" * 256, "web:" + "t" * 129, "host-.test/web", "[::g]/web"),
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_reference(text)


def test_hints_at_capitals() -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_reference("team/Web:1")
    assert "team/web:1" in caught.value.hint

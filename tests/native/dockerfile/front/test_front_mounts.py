"""RUN --mount."""

from __future__ import annotations

from typing import Any

import pytest
from fronts import evaluate, refuse

from orchestrator.engines.native.dockerfile.front.steps import Origin, RunMount, RunStep


def mount(text: str, before: str = "WORKDIR /w") -> RunMount:
    steps = evaluate(f"FROM a AS one\nFROM b\nARG T=/t\n{before}\nRUN --mount={text} x").steps
    assert isinstance(steps[-1], RunStep)
    return steps[-1].mounts[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/a", {"type": "bind", "target": "/a", "source": "/", "origin": Origin(), "read_write": False}),
        ("type=bind,dst=b/../c,src=d,rw", {"target": "/w/c", "source": "/d", "read_write": True}),
        ("target=.", {"target": "/w"}),
        ("target=/a,readonly=false", {"read_write": True}),
        ("target=/a,readwrite=0", {"read_write": False}),
        ("from=one,target=/a", {"origin": Origin(kind="stage", name="0")}),
        ("from=0,target=/a", {"origin": Origin(kind="stage", name="0")}),
        ("from=nginx,target=/a", {"origin": Origin(kind="image", name="nginx")}),
        (
            "type=cache,target=/a/",
            {"type": "cache", "id": "/a", "read_write": True, "sharing": "shared", "origin": None},
        ),
        ("type=cache,target=$T/x", {"id": "/t/x", "target": "/t/x"}),
        (
            "type=cache,id=i,target=a,sharing=LOCKED,mode=0700,uid=1,gid=2,ro",
            {"id": "i", "target": "/w/a", "mode": 0o700},
        ),
        ("type=cache,target=/a,from=one,source=b", {"origin": Origin(kind="stage", name="0"), "source": "/b"}),
        ("type=tmpfs,target=/a,size=1m", {"type": "tmpfs", "size": 1 << 20, "read_write": True}),
        ("type=secret,id=s", {"id": "s", "target": "/run/secrets/s", "required": False}),
        ("type=secret,source=a/s,required", {"id": "a/s", "target": "/run/secrets/s", "required": True}),
        ("type=secret,target=/x/y,mode=0400", {"id": "y", "target": "/x/y", "mode": 0o400}),
        ("type=secret,id=s,env=E", {"env": "E", "target": None}),
        ("type=secret,id=s,env=E,target=f", {"env": "E", "target": "/f"}),
        ("required,type=ssh", {"type": "ssh", "id": "default", "target": None, "required": True}),
        ("type=ssh,id=k,target=/a.sock,uid=5", {"id": "k", "target": "/a.sock", "uid": 5}),
        ("TYPE=Cache,Target=/a", {"type": "cache", "target": "/a"}),
        ('"type=tmpfs,target=/a"', {"type": "tmpfs", "target": "/a"}),
    ],
)
def test_understands(text: str, expected: dict[str, Any]) -> None:
    found = mount(text)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bidn,target=/a", "invalid-mount RUN: unsupported type 'bidn' of --mount | did you mean bind?"),
        ("targte=/a", "invalid-mount RUN: --mount has no key 'targte' | did you mean target?"),
        ("target", "invalid-mount RUN: target of --mount needs a value"),
        ("target=/", "invalid-mount RUN: --mount cannot be put over the root directory"),
        ("target=/a,from=$X", "variable-not-supported RUN: from= of --mount cannot have variables"),
        ("target=/a,uid=1", "invalid-mount RUN: uid means nothing for a mount of type bind"),
        ("target=/a,sharing=locked", "invalid-mount RUN: sharing means nothing for a mount of type bind"),
        ("type=cache,target=/a,sharing=x", "invalid-mount RUN: unsupported sharing 'x'"),
        ("type=cache,target=/a,mode=9", "invalid-mount RUN: mode of --mount: '9' is not an octal mode"),
        ("type=cache,target=/a,uid=x", "invalid-mount RUN: uid of --mount: 'x' is not a numeric identifier"),
        ("type=tmpfs,target=/a,size=x", "invalid-mount RUN: size of --mount: 'x' is not a size"),
        ("target=/a,ro=maybe", "invalid-mount RUN: readonly of --mount: 'maybe' is neither true nor false"),
        ("type=secret", "invalid-mount RUN: a secret needs an id or a target"),
        ("type=secret,id=a,source=b", "invalid-mount RUN: a secret has a source or an id, not both"),
        ("type=secret,id=a,from=one", "invalid-mount RUN: from means nothing for a mount of type secret"),
        ("from=later,target=/a", "stage-order RUN: the stage later is defined after this one"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    found = refuse(f"FROM a AS one\nRUN --network=none --mount={text} x\nFROM b AS later\nCOPY --from=one / /\n")
    assert found[0].startswith(f"2:20 {message}".replace("RUN: the stage", "the stage")), found[0]

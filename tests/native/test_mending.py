"""What is said of damage: mended, failed, or not known. What is done about it is in e2e."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engines.native import mending
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.mending import Damage, diagnose_projects, mend_project
from orchestrator.engines.native.network.nftables import read_presence
from orchestrator.engines.native.store import Store
from orchestrator.errors import Diagnostic, EngineError, Unavailable


def answer(kind: int, code: int = 0) -> bytes:
    """A netlink message: an error with its code (NLMSG_ERROR is 2), or anything else."""
    return struct.pack("=IHHIIi", 20, kind, 0, 1, 0, -code)


def test_a_table_that_one_may_not_ask_for_is_not_missing() -> None:
    assert read_presence(answer(10 << 8), "t")
    for code in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
        assert not read_presence(answer(2, code), "t")
    with pytest.raises(Unavailable, match="not permitted"):
        read_presence(answer(2, errno.EPERM), "t")
    with pytest.raises(EngineError, match="No buffer space"):
        read_presence(answer(2, errno.ENOBUFS), "t")


class Hands:
    """Stands for the publisher and the starter; what is in `broken` cannot be done."""

    def __init__(self, *broken: str) -> None:
        self.broken, self.done = broken, list[str]()

    def sync(self, project: str) -> None:
        self._do(project)

    def reconnect(self, row: Any, _spec: object) -> None:
        self._do(row["name"])

    def _do(self, name: str) -> None:
        if name in self.broken:
            raise EngineError(f"{name} is broken")
        self.done.append(name)


@pytest.fixture
def mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    damage = Damage()
    damage["net"], damage["other"] = ["1", "2"], ["2"]
    damage.bare.add("net")
    monkeypatch.setattr(mending, "find_damage", lambda *_: damage)
    monkeypatch.setattr(mending, "load_spec", lambda _row: None)

    def run(hands: Hands, misses: Any) -> list[Diagnostic]:
        monkeypatch.setattr(mending, "misses_table", misses)
        told: list[Diagnostic] = []
        rows: Any = [{"id": key, "name": f"c{key}", "service": "s"} for key in ("1", "2")]
        layout = Layout(tmp_path, tmp_path)
        mend_project(layout, SimpleNamespace(), hands, hands, "shop", rows, told.append)  # type: ignore[arg-type]
        return told

    return run


def test_what_could_not_be_connected_is_not_called_mended(mend: Any) -> None:
    hands = Hands("c2")
    told = mend(hands, lambda *_: True)
    assert [one.code for one in told] == ["firewall-mended", "network-lost", "network-mended"]
    assert told[1].message.endswith("could not be connected again: c2 is broken")
    assert told[2].message == "the link of network net was gone; connected again: c1"
    assert hands.done == ["shop", "c1"]


def test_a_firewall_that_cannot_be_mended_does_not_keep_the_rest_back(mend: Any) -> None:
    def refuse(*_: object) -> bool:
        raise Unavailable("not permitted")

    for hands, misses in ((Hands("shop"), lambda *_: True), (Hands(), refuse)):
        told = mend(hands, misses)
        assert [one.code for one in told] == ["firewall-lost", "network-mended", "network-mended"]
        assert hands.done == ["c1", "c2"]


def test_a_diagnosis_goes_on_where_a_table_cannot_be_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> bool:
        raise Unavailable("cannot look: not permitted", hint="run as root")

    row = {"id": "1", "project": "shop", "state": "running"}
    store: Any = SimpleNamespace(containers=lambda: [row], rows=lambda _query: [{"name": "data", "project": "shop"}])
    monkeypatch.setattr(mending, "is_alive", lambda *_: True)
    monkeypatch.setattr(mending, "misses_table", refuse)
    monkeypatch.setattr(mending, "find_damage", lambda *_: Damage())
    found = list(diagnose_projects(Layout(tmp_path, tmp_path), store))
    assert (found[0].name, found[0].detail) == ("firewall", "cannot look: not permitted")
    assert [one.name for one in found] == ["firewall", "volume"]


def test_stores_that_are_gone_leave_no_trace(tmp_path: Path) -> None:
    from orchestrator.engines.native import store as module

    with module.closed_stores():
        assert not module._opened
    kept = Store(tmp_path / "stack.db")
    with kept.writing():
        pass
    for _ in range(3):
        one = Store(tmp_path / "stack.db")
        one.containers()
        one.close()
        one.containers()
    del one
    assert len(module._opened) == 1
    with module.closed_stores():
        assert not module._opened
    assert kept.containers() == []
    assert len(module._opened) == 1
    kept.close()
    assert not module._opened

"""The store keeps leases apart between threads, processes and crashes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engines.native.store import Store, closed_stores
from orchestrator.errors import Conflict, NotFound, Unavailable
from orchestrator.supervision import launch


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state" / "stack.db")
    yield made
    made.close()


def _container(name: str, **values: Any) -> dict[str, Any]:
    return {
        "id": name.encode().hex().ljust(64, "0")[:64],
        "name": name,
        "project": "p",
        "service": "web",
        "number": 1,
        "oneoff": 0,
        "image": "busybox",
        "image_id": "sha256:0",
        "config_hash": "h",
        "spec": "{}",
        "created_at": 1.0,
        **values,
    }


def _insert(store: Store, name: str, **values: Any) -> str:
    row = _container(name, **values)
    with store.writing() as connection:
        store.insert_container(row, connection=connection)
    return str(row["id"])


def test_reading_makes_no_store(store: Store) -> None:
    assert store.containers("p") == []
    assert not store.exists()


def test_a_container_name_is_held_across_projects(store: Store) -> None:
    _insert(store, "web-1", project="first")
    with pytest.raises(Conflict, match="taken by a container of project first"):
        _insert(store, "web-1", id="f" * 64, project="second")
    assert len(store.containers()) == 1


def test_an_address_is_leased_once_per_network(store: Store) -> None:
    endpoint = {"network": "n", "position": 0, "ipv4": "10.0.0.2", "mac": "m", "interface": "eth0", "aliases": "[]"}
    with store.writing() as connection:
        store.insert_container(_container("a"), endpoints=[endpoint], connection=connection)
    with pytest.raises(Conflict, match=r"10\.0\.0\.2 is already in use"), store.writing() as connection:
        store.insert_container(_container("b"), endpoints=[endpoint], connection=connection)
    assert [row["name"] for row in store.containers()] == ["a"], "the failed insert left nothing"


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [("", "127.0.0.1", True), ("127.0.0.1", "", True), ("127.0.0.1", "127.0.0.2", False), ("0.0.0.0", "::", False)],
)
def test_a_host_port_is_leased_once_per_address(store: Store, first: str, second: str, clash: bool) -> None:
    one, two = _insert(store, "a"), _insert(store, "b", project="other")
    port = {"host_port": 80, "protocol": "tcp", "container_port": 80}
    store.lease_ports(one, [{**port, "host_ip": first}])
    store.lease_ports(one, [{**port, "host_ip": first}])
    if clash:
        with pytest.raises(Conflict, match="taken by container a of project p"):
            store.lease_ports(two, [{**port, "host_ip": second}])
    else:
        store.lease_ports(two, [{**port, "host_ip": second}])
    assert store.release_ports(one)
    store.lease_ports(two, [{**port, "host_ip": second}])


def _lease_many(path: Path, start: int) -> None:
    store = Store(path)
    for number in range(start, start + 30):
        _insert(store, f"c{number}")


def test_processes_write_at_once(store: Store, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "state" / "stack.db"
    workers = [context.Process(target=_lease_many, args=(path, start)) for start in (0, 100, 200)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(store.containers()) == 90


def test_a_store_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, not a folder")
    with pytest.raises(Unavailable, match="cannot open the store"):
        Store(tmp_path / "state" / "stack.db").containers() or Store(tmp_path / "state" / "stack.db").update_container(
            "x"
        )


def test_a_second_connection_of_a_process_does_not_cost_the_first_its_locks(tmp_path: Path) -> None:
    # A build looks into the store beside the engine. Another process that comes and goes must not end the journal.
    import subprocess
    import sys

    path = tmp_path / "stack.db"
    first, second = Store(path), Store(path)
    insert = "INSERT INTO volumes VALUES (?, '', '', '', '{}', 0)"
    with first.writing() as connection:
        connection.execute(insert, ("one",))
    assert second.rows("SELECT name FROM volumes")
    second.close()
    look = f"import sqlite3; c = sqlite3.connect({str(path)!r}); print(c.execute('SELECT * FROM volumes').fetchall())"
    subprocess.run([sys.executable, "-c", look], check=True, capture_output=True)
    with first.writing() as connection:
        connection.execute(insert, ("two",))
    third = Store(path)
    assert [row["name"] for row in third.rows("SELECT name FROM volumes ORDER BY name")] == ["one", "two"]
    seen = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True)
    assert "two" in seen.stdout
    for store in (first, third):
        store.close()


def test_no_connection_is_carried_into_a_supervisor(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork with one open makes the child believe that it holds locks that only its parent has."""
    _insert(store, "web")
    held = []

    def fork() -> int:
        links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        held.extend(link for link in links if "stack.db" in link)
        raise BlockingIOError

    monkeypatch.setattr(launch.os, "fork", fork)
    with pytest.raises(BlockingIOError):
        launch.prepare("native")
    assert held == []
    assert store.container("web") is not None


def test_ports_of_a_container_that_is_gone(store: Store) -> None:
    with pytest.raises(NotFound, match="it has been removed"):
        store.lease_ports("0" * 64, [])


def test_no_thread_opens_a_store_while_another_one_forks(store: Store) -> None:
    """A child that found one open would take no lock when it writes."""
    ending = threading.Event()

    def read() -> None:
        while not ending.is_set():
            store.containers()
            store.close()

    store.check(1.0)
    readers = [threading.Thread(target=read) for _ in range(3)]
    for one in readers:
        one.start()
    try:
        for _ in range(200):
            with closed_stores():
                opened = store._connection is not None
                time.sleep(0.0005)
                assert not opened
                assert store._connection is None
    finally:
        ending.set()
        for one in readers:
            one.join()

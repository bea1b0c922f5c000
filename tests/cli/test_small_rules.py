"""Rules without a screen or a container: where a copy arrives, which keys detach, how moments and sizes are told."""

from __future__ import annotations

import pytest

from orchestrator.actions.attach_container import parse_detach_keys
from orchestrator.actions.copy_files import Place, choose_destination, parse_place
from orchestrator.actions.usage import compute_row
from orchestrator.cli.commands.top import describe_process, render_start
from orchestrator.cli.quantities import render_binary_size, render_rate_size
from orchestrator.engines.base import ContainerUsage, PathFacts, ProcessFacts
from orchestrator.engines.native.runtime.attach import _KeyWatch
from orchestrator.errors import Conflict, NotFound, UsageError

from .conftest import make_container

FILE, FOLDER = PathFacts(kind="file"), PathFacts(kind="directory")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("web:/x", Place(service="web", path="/x")),
        ("web:x:y", Place(service="web", path="x:y")),
        ("./web:/x", Place(path="./web:/x")),
        ("/web:/x", Place(path="/web:/x")),
        ("x", Place(path="x")),
        ("-", Place(path="-")),
        (":/x", Place(path=":/x")),
    ],
)
def test_one_end_of_a_copy(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("source", "found", "target", "there", "arrives"),
    [
        ("/a/f", FILE, "/b", FOLDER, ("/b", "f")),
        ("/a/f", FILE, "/b/g", None, ("/b", "g")),
        ("/a/f", FILE, "/b/g", FILE, ("/b", "g")),
        ("/a", FOLDER, "/b", FOLDER, ("/b", "a")),
        ("/a/.", FOLDER, "/b", FOLDER, ("/b", ".")),
        ("/a/", FOLDER, "/b/new", None, ("/b", "new")),
        ("/a", FOLDER, "/new/", None, ("/", "new")),
        ("/", FOLDER, "/b", FOLDER, ("/b", ".")),
    ],
)
def test_where_a_copy_arrives(
    source: str, found: PathFacts, target: str, there: PathFacts | None, arrives: tuple[str, str]
) -> None:
    assert choose_destination(source, found, target, there) == arrives


def test_where_nothing_can_arrive() -> None:
    with pytest.raises(Conflict):
        choose_destination("/a", FOLDER, "/b", FILE)
    with pytest.raises(Conflict):
        choose_destination("/a", FILE, "/b/", FILE)
    with pytest.raises(NotFound):
        choose_destination("/a", FILE, "/b/", None)


def test_detach_keys() -> None:
    assert parse_detach_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_detach_keys("CTRL-@,a,ctrl-[,ctrl-_") == b"\x00a\x1b\x1f"
    for text in ("ctrl-", "ctrl-pp", "f1", "", "ctrl-1"):
        with pytest.raises(UsageError):
            parse_detach_keys(text)


def test_detach_keys_are_found_in_what_is_typed() -> None:
    keys = _KeyWatch(b"\x10\x10\x11")
    # What turns out not to be the keys is passed on, in order, and looked at anew from its second letter on.
    assert keys.filter(b"a\x10") == (b"a", False)
    assert keys.filter(b"b\x10\x10") == (b"\x10b", False)
    assert keys.filter(b"\x10") == (b"\x10", False)
    assert keys.filter(b"\x11rest") == (b"", True)
    assert _KeyWatch(b"").filter(b"\x10\x11") == (b"\x10\x11", False)


def test_use_is_a_rate_between_two_looks() -> None:
    one = make_container()
    before = ContainerUsage(time=10.0, cpu_seconds=1.0)
    now = ContainerUsage(time=12.0, cpu_seconds=4.0, memory=25, memory_limit=100)
    row = compute_row(one, before, now)
    assert (row.cpu, row.memory_share) == (150.0, 25.0)
    # Started again in between, it counts from nothing.
    assert compute_row(one, now, ContainerUsage(time=13.0)).cpu == 0.0
    assert compute_row(one, None, now).cpu == 0.0


def test_sizes_and_starts_as_docker_and_ps_have_them() -> None:
    assert [render_rate_size(n) for n in (0, 756, 1100, 12_345_678)] == ["0B", "756B", "1.1kB", "12.3MB"]
    assert [render_binary_size(n) for n in (0, 733_184, 25_276_510_208)] == ["0B", "716KiB", "23.54GiB"]
    day = 1_800_000_000.0
    assert render_start(day - 60, day).count(":") == 1
    assert len(render_start(day - 20 * 86400, day)) <= 5
    assert render_start(day - 400 * 86400, day) == "2025"
    process = ProcessFacts(
        pid=7, parent=1, uid=123456, cpu_seconds=3725.0, started_at=day - 7450, terminal="?", command="x y"
    )
    assert describe_process(process, day, {})[:4] == ("123456", "7", "1", "50")
    assert describe_process(process, day, {})[5:] == ("?", "01:02:05", "x y")


def test_a_plan_names_every_field_that_differs_once() -> None:
    from orchestrator.cli.plans import dump_plan, render_plan
    from orchestrator.digest import diff_service
    from orchestrator.model import Service
    from orchestrator.plan import CreateContainer, Plan, StartContainer

    old = {"environment": {"A": "1", "B": "1", "C": "1", "PASSWORD": "1"}, "image": "x"}
    new = {"environment": {"A": "2; 3", "B": "2", "C": "2", "PASSWORD": "2"}, "image": "x"}
    changes = diff_service(old, new)
    cause = "; ".join([*(one.render() for one in changes[:3]), "and 1 more", "network front changed"])
    made = CreateContainer(
        id="create web-1", subject="p-web-1", cause=cause, service=Service(name="web"), number=1,
        container_name="p-web-1", config_hash="", replaces="old", changes=changes,
    )  # fmt: skip
    started = StartContainer(
        id="start web-1", subject="p-web-1", cause=cause, container_name="p-web-1", service="web", number=1
    )
    plan = Plan(operations=(made, started))
    assert render_plan(plan, "p").splitlines()[2:] == [
        "  ~ create container p-web-1",
        "      environment.A: 1 -> 2; 3",
        "      environment.B: 1 -> 2",
        "      environment.C: 1 -> 2",
        "      environment.PASSWORD: changed",
        "      network front changed",
        "  + start container p-web-1",
    ]
    told = dump_plan(plan, "p")["operations"][0]["changes"]
    assert [one["path"] for one in told] == ["environment.A", "environment.B", "environment.C", "environment.PASSWORD"]
    assert "2" not in told[3].values()

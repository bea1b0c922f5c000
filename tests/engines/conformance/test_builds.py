"""Building images of services: what comes of it, what is told, how it is called off."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.engines.base import BuildEvent
from orchestrator.errors import StackError
from orchestrator.goal import BuildOptions

from .conftest import IMAGE, Bench

DOCKERFILE = f"FROM {IMAGE}\nARG WORD=none\nRUN echo $WORD >/word\n"


def use_build(bench: Bench, folder: Path, **more: object) -> None:
    """A service ``web`` that is built, and others as given."""
    build = {"context": str(folder), "dockerfile_inline": DOCKERFILE}
    bench.use({"web": {"build": build, "image": f"{bench.project}-built:1"}, **more})  # type: ignore[dict-item]


def test_a_build_gives_the_image_its_name_and_remembers_when(bench: Bench, tmp_path: Path) -> None:
    use_build(bench, tmp_path)
    web = bench.stack.services["web"]
    reference = str(web.image)
    assert bench.observe().images[reference] is None
    before = time.time()
    told: list[BuildEvent] = []
    facts = bench.engine.build_image(bench.stack, web, progress=told.append)
    assert facts.reference == reference
    found = bench.observe().images[reference]
    assert found is not None
    assert (found.id, found.pulled_at) == (facts.id, 0.0)
    assert found.built_at >= before
    opened = [one.vertex for one in told if one.kind == "started"]
    closed = [one.vertex for one in told if one.kind in ("done", "cached")]
    assert opened
    assert sorted(opened) == sorted(set(opened)) == sorted(closed), "every step begins and ends once"
    assert all(one.name for one in told if one.kind == "started")
    again = bench.engine.build_image(bench.stack, web)
    later = bench.observe().images[reference]
    assert later is not None
    assert (later.id, later.built_at >= found.built_at) == (again.id, True)
    key = bench.run()
    assert bench.look(key).image_id == again.id


def test_a_build_that_is_called_off_leaves_no_image(bench: Bench, tmp_path: Path) -> None:
    use_build(bench, tmp_path)
    web = bench.stack.services["web"]
    with pytest.raises(StackError):
        bench.engine.build_image(
            bench.stack,
            web,
            options=BuildOptions(args={"WORD": "other"}),
            progress=lambda _one: None,
            cancel=lambda: True,
        )
    assert bench.observe().images[str(web.image)] is None


def test_an_image_of_another_service_is_a_build_context(bench: Bench, tmp_path: Path) -> None:
    build = {
        "context": str(tmp_path),
        "dockerfile_inline": "FROM base\nRUN cat /word\n",
        "additional_contexts": {"base": "service:web"},
    }
    use_build(bench, tmp_path, top={"build": build, "image": f"{bench.project}-top:1"})
    bench.engine.build_image(bench.stack, bench.stack.services["web"], options=BuildOptions(args={"WORD": "deep"}))
    facts = bench.engine.build_image(bench.stack, bench.stack.services["top"])
    assert bench.observe().images[facts.reference] is not None

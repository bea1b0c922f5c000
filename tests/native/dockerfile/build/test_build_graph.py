"""Stages, the cache, several builds at once, and what becomes of a build that is stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from workbench import Bench

from orchestrator.engines.native.dockerfile.builder import build_image
from orchestrator.engines.native.dockerfile.performing import leftovers
from orchestrator.engines.native.dockerfile.performing.leftovers import sweep_builds
from orchestrator.engines.native.dockerfile.performing.run_step import RunFailed
from orchestrator.engines.native.dockerfile.request import BuildResult
from orchestrator.engines.native.images.failures import TransferCancelled


def names(bench: Bench, kind: str) -> list[str]:
    """The titles of the vertices that were closed as `kind`."""
    titles = {one.vertex: one.name for one in bench.events if one.kind == "started"}
    return [titles[one.vertex] for one in bench.events if one.kind == kind]


def test_stages(bench: Bench) -> None:
    text = (
        "FROM base AS one\nRUN echo 1 > /one\nFROM base AS never\nRUN false\nFROM one AS two\nRUN cat /one > /two\n"
        "FROM base\nCOPY --from=two /one /two /\nCOPY --from=base /etc/group /group\nRUN cat /one /two\n"
    )
    result = bench.build(text)
    assert (result.built_steps, bench.output) == (5, "1\n1\n")
    assert "never" not in "".join(one.name for one in bench.events)
    assert "[stage-3 4/4] RUN cat /one /two" in names(bench, "done")
    assert bench.build(text).built_steps == 0
    assert bench.build(text, target="two").image_id == bench.image().id
    assert "two" in bench.files()
    assert "group" not in bench.files()
    with pytest.raises(RunFailed):
        bench.build(text, target="never")


def test_the_same_content_from_another_stage_is_the_same(bench: Bench) -> None:
    text = "FROM base AS a\nARG N\nRUN echo $N > /n; echo same > /s\nFROM base\nCOPY --from=a /s /s\nRUN cat /s\n"
    bench.build(text, args={"N": "1"})
    result = bench.build(text, args={"N": "2"})
    assert (result.built_steps, result.cached_steps) == (1, 2)


def test_cached_stages_need_not_be_there(bench: Bench) -> None:
    """The stages that a cached step took from may have been pruned."""
    text = "FROM base AS a\nRUN echo 1 > /n\nFROM base\nCOPY --from=a /n /n\nRUN cat /n\n"
    bench.build(text)
    for record in bench.store.cache.list_records():
        if record.data["text"] == "RUN echo 1 > /n":
            bench.store.cache.remove(record.key)
    assert bench.store.collect_garbage() > 0
    result = bench.build(text)
    assert (result.built_steps, result.cached_steps) == (0, 2)
    bench.store.prune_cache()
    image = bench.image()
    assert bench.build(text).image_id == image.id, "layers that an image holds are found again"
    bench.store.remove_image("built")
    bench.store.prune_cache()
    assert bench.build(text).built_steps == 3


def test_what_nobody_had_to_look_at_is_told_once(bench: Bench) -> None:
    text = "FROM base AS a\nARG N=1\nRUN echo $N > /n\nFROM base\nCOPY --from=a /n /n\n"
    bench.build(text)
    bench.events.clear()
    assert bench.build(text).built_steps == 0
    assert names(bench, "cached").count("[a 2/2] RUN echo 1 > /n") == 1


def test_no_cache(bench: Bench) -> None:
    text = "FROM base AS a\nRUN echo 1 > /n\nFROM base\nCOPY --from=a /n /n\nRUN cat /n\n"
    first = bench.build(text)
    again = bench.build(text, no_cache=True)
    assert again.built_steps == 3
    assert again.image_id != first.image_id
    assert bench.build(text).image_id == again.image_id, "what was built last counts"
    assert bench.build(text, no_cache=("a",)).built_steps == 1


def test_link_survives_a_change_below(bench: Bench) -> None:
    bench.write("x", "1")
    text = "FROM base\nARG N\nRUN echo $N\nCOPY --link --chown=1:2 x /deep/x\n"
    bench.build(text, args={"N": "1"})
    result = bench.build(text, args={"N": "2"})
    assert (result.built_steps, result.cached_steps) == (1, 1)
    assert bench.files()["deep/x"].stat().st_uid == 1
    assert bench.read("etc/group").startswith("root")


def test_stages_at_the_same_time(bench: Bench) -> None:
    """Two stages that wait for each other through a shared cache can only end if both run."""
    wait = "for i in $(seq 1000); do test -e /c/{} && exit 0; sleep 0.05; done; exit 1"
    mount = "RUN --mount=type=cache,target=/c"
    bench.build(
        f"FROM base AS a\n{mount} touch /c/a; {wait.format('b')}\n"
        f"FROM base AS b\n{mount} touch /c/b; {wait.format('a')}\n"
        "FROM base\nCOPY --from=a /etc /a\nCOPY --from=b /etc /b\n"
    )


def test_the_first_failure_ends_the_rest(bench: Bench) -> None:
    text = (
        "FROM base AS slow\nRUN --mount=type=cache,target=/c touch /c/go; sleep 60\n"
        "FROM base AS bad\nRUN --mount=type=cache,target=/c until test -e /c/go; do sleep 0.05; done; exit 7\n"
        "FROM base\nCOPY --from=slow /etc /a\nCOPY --from=bad /etc /b\n"
    )
    with pytest.raises(RunFailed) as failed:
        bench.build(text)
    assert failed.value.exit_code == 7
    assert any("sleep 60" in one for one in names(bench, "cancelled"))
    assert bench.leaks() == []


def test_cancelling(bench: Bench) -> None:
    stop = threading.Event()

    def watch() -> None:
        while not any(one.text == "begun\n" for one in bench.events):
            time.sleep(0.01)
        stop.set()

    thread = threading.Thread(target=watch)
    thread.start()
    with pytest.raises(TransferCancelled):
        bench.build("FROM base\nRUN echo begun; sleep 60 & sleep 60\n", cancel=stop.is_set)
    thread.join()
    assert bench.leaks() == []
    assert bench.store.resolve_image("built") is None


def test_two_builds_do_each_step_once(bench: Bench) -> None:
    mount = "--mount=type=cache,target=/c"
    text = f"FROM base\nRUN {mount} echo x >> /c/count; sleep 0.3\nRUN {mount} cat /c/count > /n\n"
    results: list[BuildResult] = []

    def build() -> None:
        results.append(build_image(bench.store, bench.layout, bench.request(text)))

    threads = [threading.Thread(target=build) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(one.built_steps for one in results) == 2
    assert sum(one.cached_steps for one in results) == 4
    assert len({one.image_id for one in results}) == 1
    assert bench.read("n") == "x\n"


def test_kill_at_any_moment(bench: Bench) -> None:
    """After kill -9 nothing runs on, the store is sound, and the next build succeeds."""
    for number in range(4):
        bench.write(f"src/{number}", "x" * 1000)
    for number, moment in enumerate(("FROM", "RUN echo", "COPY", "RUN sleep", "exporting")):
        text = (
            f"FROM base AS a\nRUN echo {number} > /a && sleep 0.1\nFROM base\nCOPY src /src{number}\n"
            f"RUN sleep 0.1; echo {number} > /b\nCOPY --from=a /a /aa\n"
        )
        pid = _build_until(bench, text, moment)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        sweep_builds(bench.layout)
        assert bench.leaks() == []
        assert bench.store.fsck() == []
        bench.build(text)
        assert bench.read("b") == f"{number}\n"
    assert list((bench.layout.images / "work").iterdir()) == []


def _build_until(bench: Bench, text: str, moment: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        request = bench.request(text)

        def watch(event: object) -> None:
            if moment in str(getattr(event, "name", "")):
                threading.Timer(0.03, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

        progress: Callable[[object], None] = watch
        build_image(bench.store, bench.layout, request, progress)
        time.sleep(5)
    finally:
        os._exit(1)


def test_a_damaged_note_harms_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed build left is told by its name alone; no group but its own is ever emptied or removed."""
    folder = leftovers.runs_folder(bench.layout) / "dead"
    (folder / "build-0123").mkdir(parents=True)
    for name in ("cgroup", "config.json"):
        (folder / "build-0123" / name).write_text("")
    ended: list[str] = []
    removed: list[str] = []
    monkeypatch.setattr(leftovers, "end_processes", ended.append)
    monkeypatch.setattr(leftovers, "remove_cgroup", removed.append)
    monkeypatch.setattr(leftovers, "forget_container", lambda layout, name, group: removed.append(group))
    sweep_builds(bench.layout)
    group = leftovers.render_build_group(bench.layout, "dead")
    assert group == f"/stack-{bench.layout.tag}-build-dead"
    assert ended == [f"{group}/build-0123"]
    assert removed == [f"{group}/build-0123", group]
    assert not folder.exists()

"""Archives, processes, use, events, and being attached: what every engine shows of its containers."""

from __future__ import annotations

import io
import tarfile
import threading
import time

import pytest

from orchestrator.engines.base import AttachRequest, Change, CommitRequest
from orchestrator.errors import Conflict, EngineError, NotFound

from .conftest import Bench


def unpack(data: bytes) -> dict[str, str]:
    """The files of an archive, by name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                found[member.name.removeprefix("./")] = content.read().decode(errors="replace").rstrip("\n")
        return found


def pack(name: str, text: str) -> io.BytesIO:
    """An archive with one file."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return io.BytesIO(target.getvalue())


def test_files_go_in_and_out_whether_it_runs_or_not(bench: Bench) -> None:
    bench.use({"web": {"volumes": ["data:/data"]}}, volumes={"data": {}})
    key = bench.run()
    engine, container = bench.engine, bench.look(key)
    engine.write_archive(container, "/tmp", pack("given", "one"))
    engine.write_archive(container, "/data", pack("below/given", "two"))
    assert bench.shell(key, "cat /tmp/given; echo; cat /data/below/given").split() == ["one", "two"]
    for _running in range(2):
        container = bench.look(key)
        kinds = [engine.look_at_path(container, path) for path in ("/tmp/given", "/data/below", "/nothing")]
        assert [one.kind if one else None for one in kinds] == ["file", "directory", None]
        listed = [engine.list_folder(container, path) for path in ("/data", "/data/below/", "/tmp/given", "/nothing")]
        assert listed == [["below/"], ["given"], [], []]
        assert unpack(b"".join(engine.read_archive(container, "/tmp/given", "renamed"))) == {"renamed": "one"}
        assert unpack(b"".join(engine.read_archive(container, "/data", "data"))) == {"data/below/given": "two"}
        assert unpack(b"".join(engine.read_archive(container, "/data/.", "."))) == {"below/given": "two"}
        with pytest.raises(NotFound):
            list(engine.read_archive(container, "/nothing", "x"))
        with pytest.raises(NotFound):
            engine.write_archive(container, "/nothing", pack("x", ""))
        with pytest.raises(Conflict):
            engine.write_archive(container, "/data", pack("below", ""))
        engine.stop_container(key, timeout=0)
    engine.write_archive(bench.look(key), "/data", pack("late", "three"))
    bench.start(key)
    assert bench.shell(key, "cat /data/late").strip() == "three"


def test_a_file_system_is_exported_and_committed_without_its_volumes(bench: Bench) -> None:
    bench.use({"web": {"volumes": ["data:/data"]}}, volumes={"data": {}})
    key = bench.run()
    bench.shell(key, "echo own > /tmp/own; echo apart > /data/apart")
    files = unpack(b"".join(bench.engine.read_filesystem(bench.look(key))))
    assert files["tmp/own"] == "own"
    assert "data/apart" not in files
    name = f"{bench.project}-made:1"
    made = bench.engine.commit_container(bench.look(key), CommitRequest(reference=name, message="why"))
    bench.use({"copy": {"image": name}})
    facts = bench.observe().images[name]
    assert facts is not None
    assert facts.id == made


def test_processes_and_use(bench: Bench) -> None:
    bench.use({"web": {"command": ["sleep", "1000"]}})
    key = bench.run()
    # It may be the runtime still, on its way to become the command.
    bench.wait_until(lambda: "sleep" in bench.engine.list_processes(bench.look(key))[0].command)
    (process,) = bench.engine.list_processes(bench.look(key))
    assert abs(process.started_at - time.time()) < 3600
    used = bench.engine.read_usage(bench.look(key))
    assert 0 < used.memory < used.memory_limit
    assert used.pids == 1
    bench.engine.stop_container(key, timeout=0)
    assert bench.engine.read_usage(bench.look(key)).memory == 0
    with pytest.raises(Conflict):
        bench.engine.list_processes(bench.look(key))


def test_what_happens_is_told(bench: Bench) -> None:
    began = time.time()
    bench.use({"web": {}})
    key = bench.run()
    bench.create(oneoff=True, container_name=f"{bench.project}-web-run")
    bench.engine.pause_container(key, paused=True)
    bench.engine.pause_container(key, paused=False)
    bench.engine.kill_container(key)
    bench.ended(key)
    bench.engine.remove_container(key)
    told = list(bench.engine.read_events(bench.project, since=began - 1, until=time.time()))
    assert [one.action for one in told] == ["create", "start", "pause", "unpause", "kill", "die", "destroy"]
    assert {(one.service, one.container) for one in told} == {("web", key)}
    assert told[5].attributes["exitCode"] == "137"
    assert told[0].attributes["name"] == f"{bench.project}-web-1"
    assert [one.time for one in told] == sorted(one.time for one in told)


def test_what_is_to_come_is_told_until_nobody_listens(bench: Bench) -> None:
    bench.use({"web": {}})
    heard: list[str] = []
    enough = threading.Event()

    def listen() -> None:
        for event in bench.engine.read_events(bench.project, since=time.time() - 1, stopped=enough.is_set):
            heard.append(event.action)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        bench.run()
        bench.wait_until(lambda: "start" in heard)
    finally:
        enough.set()
        listener.join(60)
    assert heard == ["create", "start"]
    assert not listener.is_alive()


def test_being_attached_ends_with_the_container(
    bench: Bench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.use({"web": {"command": "sleep 0.3; echo seen; echo also >&2; exit 7"}})
    key = bench.run()
    # Nobody watches it here as a supervisor would: its end is seen by looking, and a supervisor is not waited for.
    monkeypatch.setattr("orchestrator.engines.native.attaching._SETTLING", 0.1)
    request = AttachRequest(stdin=False, sig_proxy=False)
    assert bench.engine.attach_container(bench.look(key), request) == 7
    out, err = capfd.readouterr()
    assert (out, err) == ("seen\n", "also\n")
    with pytest.raises(EngineError):
        bench.engine.attach_container(bench.look(key), request)


def test_a_called_container_misses_nothing(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.use({"web": {"command": "echo first; exit 3"}})
    key = bench.create(oneoff=True, called=True, container_name=f"{bench.project}-web-run")
    request = AttachRequest(stdin=False, sig_proxy=False)
    # As a supervisor does, who writes the end down.
    ended: list[Change] = []
    close = bench.engine.watch(bench.project, ended.append)
    try:
        code = bench.engine.attach_container(bench.look(key), request, begin=lambda: bench.engine.start_container(key))
        bench.wait_until(lambda: bool(ended))
    finally:
        close()
    assert [(one.kind, one.exit_code) for one in ended] == [("exited", 3)]
    assert (code, capfd.readouterr().out) == (3, "first\n")

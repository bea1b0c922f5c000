"""Files of this machine are made the same in a container."""

from __future__ import annotations

from pathlib import Path

from orchestrator.engines.base import FileSync

from .conftest import Bench


def test_what_is_here_is_there(bench: Bench, tmp_path: Path) -> None:
    bench.use({"web": {"volumes": ["data:/data"]}}, volumes={"data": {}})
    key = bench.run()
    file, gone = tmp_path / "file", tmp_path / "gone"
    file.write_text("one")
    gone.write_text("gone")
    syncs = [FileSync(source=str(file), target="/data/deep/er/file"), FileSync(source=str(gone), target="/tmp/gone")]
    assert bench.engine.sync_files(bench.look(key), syncs) == 2
    assert bench.shell(key, "cat /data/deep/er/file; echo; cat /tmp/gone").split() == ["one", "gone"]
    assert bench.engine.sync_files(bench.look(key), syncs, changed_only=True) == 0
    file.write_text("two")
    gone.unlink()
    assert bench.engine.sync_files(bench.look(key), syncs, changed_only=True) == 1, "nothing is removed"
    assert bench.shell(key, "cat /data/deep/er/file; echo; cat /tmp/gone").split() == ["two", "gone"]
    assert bench.engine.sync_files(bench.look(key), syncs) == 2
    assert bench.engine.look_at_path(bench.look(key), "/tmp/gone") is None
    # A container that does not run gets it as well.
    bench.engine.stop_container(key, timeout=0)
    file.write_text("three")
    bench.engine.sync_files(bench.look(key), syncs)
    bench.start(key)
    assert bench.shell(key, "cat /data/deep/er/file").strip() == "three"

"""kill -9 at any moment of whatever changes the store: it stays consistent, and the next try succeeds.

``STACK_CRASHES=100`` kills each of them a hundred times.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .loopback import Registry
from .tars import file, folder, make_docker_archive, make_rootfs, make_tar

KILLS = int(os.environ.get("STACK_CRASHES", "3"))
_PROGRAM = """
import sys
from pathlib import Path
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout
state, what, *names = sys.argv[1:]
store = ImageStore(Layout(Path(state), Path("/nonexistent")))
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
if what == "pull":
    store.pull(names[0])
elif what == "push":
    store.push(names[0], reference=names[1])
elif what == "load":
    store.load_archive(Path(names[0]))
elif what == "import":
    store.import_rootfs(Path(names[0]), reference=names[1])
elif what == "tag":
    for number in range(20):
        store.tag_image(names[0], f"tag:{number}")
elif what == "prune":
    store.prune_cache()
    store.prune(unnamed_only=False)
"""


class Victim:
    """Runs operations in processes of their own; knows how long each takes."""

    def __init__(self, store: ImageStore) -> None:
        self.state = store.root.parent
        self.spans: dict[str, float] = {}

    def start(self, what: str, *names: str) -> subprocess.Popen[str]:
        """A process that has done its imports, and has just been told to begin."""
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(self.state), what, *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        return process

    def run(self, what: str, *names: str) -> None:
        """Let it come to its end."""
        begun = time.monotonic()
        process = self.start(what, *names)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        self.spans[what] = time.monotonic() - begun

    def kill(self, chance: random.Random, what: str, *names: str) -> None:
        """End it at any moment of its span."""
        process = self.start(what, *names)
        try:
            process.wait(chance.uniform(0, self.spans[what]))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


@pytest.fixture
def chance() -> random.Random:
    return random.Random(int(os.environ.get("STACK_CRASH_SEED", "1")))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """An archive of four layers with two hundred files each."""
    layers = [make_rootfs()]
    layers += [make_tar([folder("d"), *(file(f"d/{n}-{i}", os.urandom(3000)) for i in range(200))]) for n in range(3)]
    make_docker_archive(tmp_path / "many.tar", layers, tags=["localhost/many:1"])
    return tmp_path / "many.tar"


def test_pull(store: ImageStore, registry: Registry, many: Path, chance: random.Random) -> None:
    registry.fill(f"docker-archive:{many}", "many:1")
    name, victim = f"{registry.host}/many:1", Victim(store)
    victim.run("pull", name)
    for attempt in range(KILLS):
        _empty(store)
        victim.kill(chance, "pull", name)
        assert store.fsck(deep=True) == []
        if attempt % 3 == 0:
            store.collect_garbage()
        victim.run("pull", name)
        assert store.fsck(deep=True) == []


def test_push(store: ImageStore, registry: Registry, many: Path, chance: random.Random, tmp_path: Path) -> None:
    store.load_archive(many)
    source, victim = "localhost/many:1", Victim(store)
    victim.run("push", source, f"{registry.host}/first:1")
    for attempt in range(KILLS):
        _forget_blobs(store)
        target = f"{registry.host}/many{attempt}:1"
        victim.kill(chance, "push", source, target)
        assert store.fsck(deep=True) == []
        victim.run("push", source, target)
        assert store.fsck(deep=True) == []
    other = ImageStore(Layout(tmp_path / "other", tmp_path / "run"))
    assert other.pull(target).diff_ids == store.require_image(source).diff_ids


def test_load(store: ImageStore, many: Path, chance: random.Random) -> None:
    victim = Victim(store)
    victim.run("load", str(many))
    for _ in range(KILLS):
        _empty(store)
        victim.kill(chance, "load", str(many))
        assert store.fsck(deep=True) == []
        victim.run("load", str(many))
        assert store.fsck(deep=True) == []


def test_names_and_import(store: ImageStore, tmp_path: Path, chance: random.Random) -> None:
    (tmp_path / "root.tar").write_bytes(make_rootfs())
    victim = Victim(store)
    victim.run("import", str(tmp_path / "root.tar"), "web:1")
    victim.run("tag", "web:1")
    for _ in range(KILLS):
        victim.kill(chance, "import", str(tmp_path / "root.tar"), "web:2")
        victim.kill(chance, "tag", "web:1")
        assert store.fsck(deep=True) == []
        store.untag_image("tag:0")
        victim.run("tag", "web:1")
        assert store.resolve_image("tag:19") == store.resolve_image("web:1")


def test_prune(store: ImageStore, many: Path, chance: random.Random) -> None:
    def fill() -> None:
        (image,) = store.load_archive(many)
        store.cache.write("step", image.diff_ids[:1])

    victim = Victim(store)
    fill()
    victim.run("prune")
    for _ in range(KILLS):
        fill()
        victim.kill(chance, "prune")
        assert store.fsck(deep=True) == []
        victim.run("prune")
        assert _list_left(store) == []


def test_collector_beside_pulls(store: ImageStore, registry: Registry, many: Path) -> None:
    """Two processes fetch and remove the same image while a third collects, over and over."""
    registry.fill(f"docker-archive:{many}", "many:1")
    name, victim = f"{registry.host}/many:1", Victim(store)
    for _ in range(max(2, KILLS // 3)):
        others = [victim.start("pull", name), victim.start("pull", name)]
        while any(one.poll() is None for one in others):
            store.prune(unnamed_only=False)
        for one in others:
            assert one.returncode == 0, one.communicate()[1]
            one.communicate()
        assert store.fsck(deep=True) == []
    victim.run("pull", name)
    assert (store.require_image(name).layers[-1] / "bin/busybox").exists()


def _empty(store: ImageStore) -> None:
    store.prune(unnamed_only=False)


def _forget_blobs(store: ImageStore) -> None:
    """As if nothing had ever been pushed: a push then sends everything."""
    for path in (store.root / "layers").glob("*.json"):
        record = json.loads(path.read_bytes())
        path.write_text(json.dumps({**record, "blobs": []}))


def _list_left(store: ImageStore) -> list[str]:
    folders = ("l", "layers", "images", "work", "blobs/sha256", "locks", "cache")
    return [f"{one}/{name}" for one in folders if (store.root / one).is_dir() for name in os.listdir(store.root / one)]

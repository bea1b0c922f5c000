"""A build that is answered from memory: in the words of the one before, and only while nothing has changed."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from workbench import Bench

from orchestrator import evidence
from orchestrator.actions import memory
from orchestrator.cli import diagnostics, main, recalled
from orchestrator.engines.native.dockerfile import recall

DOCKERFILE = 'FROM base\nARG WHO=nobody\nLABEL who="$WHO"\nCOPY . /srv/\nCOPY --from=tools /etc/passwd /tools\n'
WORDS = ("image", "build", "-t", "shop/web:1", "--build-arg", "WHO", "context")


class Desk:
    """A folder with a context in it, and the command that builds it."""

    def __init__(self, bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench, self.capsys, self.monkeypatch = bench, capsys, monkeypatch
        self.thought = 0
        from orchestrator.cli.quick import run_quickly as real

        def think(*words: object) -> int:
            self.thought += 1
            return real(*words)  # type: ignore[arg-type]

        monkeypatch.setattr("orchestrator.cli.quick.run_quickly", think)

    def build(self, *words: str) -> tuple[str, str]:
        """Build; what was written to stdout and stderr."""
        settle()
        self.monkeypatch.setattr(diagnostics, "_reported", 0)
        assert main.main(words or WORDS) == 0
        return self.capsys.readouterr()

    def is_remembered(self, *words: str) -> bool:
        """Whether the next build is answered from memory."""
        settle()
        before = recalled.recall_output(words or WORDS)
        return before is not None

    def learn(self, *words: str) -> None:
        """Build until it is answered from memory."""
        for _ in range(2):
            self.build(*words)
        assert self.is_remembered(*words)

    def label(self) -> str:
        return self.bench.image("shop/web:1").config.labels["who"]


def settle() -> None:
    """Wait until times tell what has been written from what will be."""
    until = time.time_ns() + evidence._TICK + 10_000_000
    while time.time_ns() <= until:
        time.sleep(0.01)


@pytest.fixture
def desk(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("STACK_STATE_DIR", str(bench.folder / "state"))
    monkeypatch.setenv("STACK_RUN_DIR", str(bench.folder / "run"))
    monkeypatch.setenv("WHO", "me")
    monkeypatch.delenv("STACK_ENGINE", raising=False)
    # A program that is edited while it is tested knows nothing of its past.
    monkeypatch.setattr(memory, "_describe_code", lambda _code: 0)
    monkeypatch.chdir(bench.folder)
    bench.store.tag_image("base", "tools")
    bench.write("Dockerfile", DOCKERFILE)
    bench.write(".dockerignore", "hidden\nlogs\n")
    bench.write("one", "first\n")
    bench.write("hidden", "nothing\n")
    bench.write("logs/yesterday", "nothing\n")
    bench.write("sub/two", "second\n")
    (bench.context / "link").symlink_to("one")
    return Desk(bench, capsys, monkeypatch)


def test_it_writes_what_it_wrote(desk: Desk) -> None:
    first = desk.build()
    image = desk.bench.image("shop/web:1")
    plain = desk.build()
    assert "CACHED" in plain.err
    assert first.err.endswith(" Image shop/web:1 Built\n")
    thought = desk.thought
    mark = next((desk.bench.store.root / "moments").iterdir())
    os.utime(mark, (1, 1))
    begun = time.time() - 1
    again = desk.build()
    assert desk.thought == thought
    assert (again.out, without_times(again.err)) == (plain.out, without_times(plain.err))
    assert desk.bench.image("shop/web:1").id == image.id
    # Rules about age hear that the image is up to date.
    assert desk.bench.image("shop/web:1").moments["docker.io/shop/web:1"]["built"] >= begun
    quiet = (*WORDS, "-q")
    desk.learn(*quiet)
    assert desk.build(*quiet) == (f"{image.id}\n", "")


def without_times(text: str) -> str:
    return "\n".join(" ".join(word for word in line.split(" ") if "0." not in word) for line in text.splitlines())


def keep_times(path: Path, change: Callable[[], object]) -> None:
    """Change a file, and set its modification time back."""
    about = path.stat()
    change()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def replace_file(desk: Desk) -> None:
    path, other = desk.bench.context / "one", desk.bench.folder / "other"
    other.write_text("FIRST\n")
    about = path.stat()
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    os.rename(other, path)


def swap_context(desk: Desk) -> None:
    """The same names, sizes and modification times, in another folder."""
    copy = desk.bench.folder / "copy"
    shutil.copytree(desk.bench.context, copy, symlinks=True)
    (copy / "one").write_text("FIRST\n")
    shutil.copystat(desk.bench.context / "one", copy / "one")
    shutil.rmtree(desk.bench.context)
    copy.rename(desk.bench.context)


def retarget(desk: Desk) -> None:
    (desk.bench.context / "link").unlink()
    (desk.bench.context / "link").symlink_to("sub")


def move_base(desk: Desk) -> None:
    desk.bench.store.import_rootfs(io.BytesIO(b"\0" * 10240), reference="empty")
    desk.bench.store.tag_image("empty", "base")


def move_source(desk: Desk) -> None:
    import tarfile

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("etc/passwd")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"new\n"))
    desk.bench.store.import_rootfs(io.BytesIO(data.getvalue()), reference="tools")


def lose_layer(desk: Desk) -> None:
    shutil.rmtree(desk.bench.image("shop/web:1").layers[0])
    assert not desk.is_remembered()
    desk.bench.store.repair()


CHANGES: dict[str, Callable[[Desk], object]] = {
    "content": lambda desk: desk.bench.write("one", "FIRST\n"),
    "content, with the old time": lambda desk: keep_times(
        desk.bench.context / "one", lambda: desk.bench.write("one", "FIRST\n")
    ),
    "another file of that size and time": replace_file,
    "another folder": swap_context,
    "a new file": lambda desk: desk.bench.write("new", "new\n"),
    "a new file further down": lambda desk: desk.bench.write("sub/new", "new\n"),
    "a file less": lambda desk: (desk.bench.context / "sub/two").unlink(),
    "a mode": lambda desk: (desk.bench.context / "one").chmod(0o755),
    "the mode of a folder": lambda desk: (desk.bench.context / "sub").chmod(0o700),
    "a link's target": retarget,
    "the ignore file": lambda desk: desk.bench.write(".dockerignore", "hidden\nsub\n"),
    "an ignore file that comes first": lambda desk: desk.bench.write("Dockerfile.dockerignore", "sub\n"),
    "the Dockerfile": lambda desk: desk.bench.write("Dockerfile", DOCKERFILE.replace("/srv/", "/opt/")),
    "a variable": lambda desk: desk.monkeypatch.setenv("WHO", "you"),
    "the base image": move_base,
    "an image that files come from": move_source,
    "the name leads elsewhere": lambda desk: desk.bench.store.tag_image("base", "shop/web:1"),
    "the name is gone": lambda desk: desk.bench.store.untag_image("shop/web:1"),
    "the image is gone": lambda desk: desk.bench.store.remove_image("shop/web:1", force=True),
    "the cache is gone": lambda desk: desk.bench.store.prune_cache(),
    "a layer is gone": lose_layer,
    "a day later": lambda desk: desk.monkeypatch.setattr(evidence, "_DAY", 0),
}


def test_every_change_is_noticed(desk: Desk) -> None:
    for name, change in CHANGES.items():
        desk.learn()
        change(desk)
        assert not desk.is_remembered(), name


def test_nothing_is_left_of_what_was_pruned(desk: Desk) -> None:
    desk.learn()
    assert main.main(("image", "prune", "-a", "-f")) == 0
    assert not desk.is_remembered()


def test_another_store_knows_nothing(desk: Desk) -> None:
    desk.learn()
    other = desk.bench.folder / "other"
    shutil.copytree(desk.bench.folder / "state", other, symlinks=True)
    desk.monkeypatch.setenv("STACK_STATE_DIR", str(other))
    assert not desk.is_remembered()


def test_the_deeper_memory_notices_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of the build itself is looked at when the words are others."""
    desk.learn()
    keep_times(desk.bench.context / "one", lambda: desk.bench.write("one", "FIRST\n"))
    desk.build(*WORDS[:4], "--build-arg", "WHO=me", "context")
    assert desk.bench.files("shop/web:1")["srv/one"].read_text() == "FIRST\n"


def test_what_cannot_be_seen_does_not_count(desk: Desk) -> None:
    desk.learn()
    desk.bench.write("hidden", "something\n")
    desk.bench.write("logs/today", "something\n")
    desk.bench.write("logs/yesterday", "something\n")
    assert desk.is_remembered()


def test_what_just_changed_is_not_trusted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another change within the same tick of the clock would leave the same times."""
    desk.build()
    monkeypatch.setattr(evidence, "_TICK", 10**15)
    monkeypatch.setattr("test_recalled_builds.settle", lambda: None)
    desk.build()
    desk.build()
    assert not desk.is_remembered()


def test_a_name_that_moved_meanwhile_is_not_believed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the build and the moment at which it is remembered, its base is replaced."""
    desk.build()
    real = recall.remember_build

    def remember(*words: object) -> None:
        move_base(desk)
        real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr("orchestrator.engines.native.building.remember_build", remember)
    desk.build()
    assert not desk.is_remembered()


@pytest.mark.parametrize(
    "words",
    [("--no-cache",), ("--pull",), ("--iidfile", "iid"), ("--metadata-file", "meta"), ("--progress", "rawjson")],
    ids=" ".join,
)
def test_what_has_to_be_done_is_done(desk: Desk, words: tuple[str, ...]) -> None:
    asked = (*WORDS[:2], *words, *WORDS[2:])
    if words == ("--pull",):
        desk.monkeypatch.setattr(
            "orchestrator.engines.native.dockerfile.inputs.BuildInputs._pull",
            lambda _self, _name, _platform, image: image,
        )
    for _ in range(3):
        desk.build(*asked)
        for name in ("iid", "meta"):
            if name in words:
                (desk.bench.folder / name).unlink()
    assert not desk.is_remembered(*asked)


def test_a_dockerfile_beside_the_words_comes_first(desk: Desk) -> None:
    """`-f` means a file here before one in the context."""
    desk.bench.write("build.df", DOCKERFILE)
    words = (*WORDS[:2], "-f", "build.df", *WORDS[2:])
    desk.learn(*words)
    (desk.bench.folder / "build.df").write_text("FROM base\n")
    assert not desk.is_remembered(*words)


def test_a_dockerfile_outside_of_the_context(desk: Desk) -> None:
    place = desk.bench.folder / "elsewhere"
    place.write_text(DOCKERFILE)
    words = (*WORDS[:2], "-f", "elsewhere", *WORDS[2:])
    desk.learn(*words)
    place.write_text(DOCKERFILE + "USER web\n")
    assert not desk.is_remembered(*words)


def test_a_secret_is_looked_at(desk: Desk) -> None:
    (desk.bench.folder / "token").write_text("abc\n")
    words = (*WORDS[:2], "--secret", "id=token,src=token", *WORDS[2:])
    desk.learn(*words)
    (desk.bench.folder / "token").write_text("xyz\n")
    assert not desk.is_remembered(*words)


def test_a_stack_is_recalled_as_well(desk: Desk) -> None:
    (desk.bench.folder / "compose.yaml").write_text(
        "name: shop\nservices:\n  a: {image: 'shop/web:1', build: {context: context, args: [WHO]}}\n"
        "  b: {image: 'shop/other:1', build: {context: context, args: {WHO: them}}}\n"
    )
    desk.build("build")
    plain = desk.build("build")
    assert desk.is_remembered("build")
    again = desk.build("build")
    assert sorted(without_times(again.err).splitlines()) == sorted(without_times(plain.err).splitlines())
    assert again.err.endswith(" Image shop/web:1 Built\n Image shop/other:1 Built\n")
    (desk.bench.folder / ".env").write_text("WHO=somebody\n")
    assert not desk.is_remembered("build")
    desk.build("build")
    desk.bench.store.tag_image("base", "shop/other:1")
    assert not desk.is_remembered("build")


def test_a_broken_memory_is_no_memory(desk: Desk) -> None:
    desk.learn()
    for folder in (desk.bench.folder / "run/remembered", desk.bench.store.root / "builds/recalled"):
        for path in folder.iterdir():
            whole = path.read_bytes()
            for content in (whole[:-1], b"", b"stack 2\n0\nq\n\n", whole.replace(b"\ne ", b"\ne x ", 1)):
                if content == whole:
                    continue
                path.write_bytes(content)
                assert not desk.is_remembered()
            path.write_bytes(whole)
    desk.build()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--iidfile", "nowhere/iid"), "--iidfile: there is no folder nowhere"),
        (("--metadata-file", "nowhere/meta"), "--metadata-file: there is no folder nowhere"),
        (("--iidfile", "context"), "--iidfile: context is a folder"),
        (("--build-context", "more=/nowhere"), "the context 'more' /nowhere does not exist"),
    ],
)
def test_what_cannot_come_to_a_good_end_is_not_begun(desk: Desk, words: tuple[str, ...], said: str) -> None:
    assert main.main((*WORDS[:2], *words, *WORDS[2:])) != 0
    err = desk.capsys.readouterr().err
    assert said in err
    assert "COPY" not in err
    assert desk.bench.store.resolve_image("shop/web:1") is None

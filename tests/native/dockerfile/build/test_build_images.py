"""The image that comes out: configuration, history, reproducibility, and what it stands on."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from workbench import Bench

from orchestrator.engines.native.dockerfile.builder import build_image
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.engines.native.images.failures import DiskFull, RegistryUnreachable
from orchestrator.engines.native.images.platform import detect_platform
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.images.workspace import Workspace
from orchestrator.engines.native.layout import Layout


def configuration(bench: Bench, name: str = "built") -> dict[str, Any]:
    data = bench.store.read_configuration(bench.image(name).id)
    assert data is not None
    found: dict[str, Any] = json.loads(data)
    return found


def test_configuration_and_history(bench: Bench) -> None:
    text = (
        "FROM base\nMAINTAINER somebody\nENV A=1\nWORKDIR /w\nRUN true\nLABEL own=1\nEXPOSE 80\nVOLUME /v\nUSER web\n"
        'STOPSIGNAL SIGINT\nENTRYPOINT ["/e"]\nCMD ["c"]\nHEALTHCHECK CMD true\nONBUILD RUN echo triggered\n'
    )
    bench.build(text, labels={"more": "2"}, tags=("built", "localhost/other:2"))
    found = configuration(bench)
    assert found["author"] == "somebody"
    assert found["config"]["Labels"] == {"own": "1", "more": "2"}
    assert found["config"]["WorkingDir"] == "/w"
    assert found["config"]["ExposedPorts"] == {"80/tcp": {}}
    layers = [one for one in found["history"] if not one.get("empty_layer")]
    assert len(layers) == len(found["rootfs"]["diff_ids"]) == 3
    assert all(one["created"] for one in found["history"])
    assert found["created"] == found["history"][-1]["created"]
    assert bench.image().references == ("docker.io/library/built:latest", "localhost/other:2")
    bench.build("FROM built\nRUN echo own\n", tags=("child",))
    assert bench.output == "triggered\nown\n"
    assert "OnBuild" not in configuration(bench, "child")["config"]


def test_unknown_fields_of_the_base_are_kept(bench: Bench) -> None:
    base = configuration(bench, "base")
    base |= {"os.version": "10.1", "vendor.extra": {"a": [1]}, "author": "base author", "container_config": {"x": 1}}
    base["config"]["ArgsEscaped"] = True
    with bench.store.open_workspace() as workspace:
        bench.store.commit_image(
            json.dumps(base).encode(), base["rootfs"]["diff_ids"], workspace, references=["special"]
        )
    bench.build("FROM special\nENV A=1\n")
    found = configuration(bench)
    assert (found["os.version"], found["vendor.extra"], found["author"]) == ("10.1", {"a": [1]}, "base author")
    assert found["config"]["ArgsEscaped"] is True
    assert "container_config" not in found


def test_the_same_inputs_give_the_same_archive(bench: Bench) -> None:
    bench.write("src/a", "1")
    text = (
        "FROM base\nARG SOURCE_DATE_EPOCH\nWORKDIR /w\nCOPY src /s\nCOPY --link src /l\n"
        "RUN mkdir /r && echo hi > /r/f && rm /bin/zcat && ln /r/f /r/g\nENV X=1\nRUN true\n"
    )
    archives = []
    for number in range(2):
        bench.build(text, source_date_epoch=1_500_000_000, no_cache=bool(number))
        target = io.BytesIO()
        bench.store.save_archive(["built"], target)
        archives.append(target.getvalue())
    assert archives[0] == archives[1]
    times = set()
    with tarfile.open(fileobj=io.BytesIO(archives[0])) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() and member.size >= 1024 else None
            if content is not None and content.read(512)[257:262] == b"ustar":
                content.seek(0)
                with tarfile.open(fileobj=content) as layer:
                    times.update(one.mtime for one in layer)
    assert max(times) <= 1_500_000_000
    assert configuration(bench)["created"] == "2017-07-14T02:40:00Z"
    first = bench.build(text, source_date_epoch=1_500_000_000)
    assert first.built_steps == 0
    assert bench.build(text, source_date_epoch=1_400_000_000).built_steps == 5


def test_what_was_built_is_saved_and_loaded(bench: Bench) -> None:
    bench.build("FROM base\nRUN mkdir /d && echo 1 > /d/x && rm -r /srv\nRUN echo 2 > /d/y && rm /d/x\n")
    archive = bench.folder / "saved.tar"
    bench.store.save_archive(["built"], archive)
    bench.store.remove_image("built")
    bench.store.prune_cache()
    bench.store.load_archive(archive)
    assert bench.read("d/y") == "2\n"
    assert "d/x" not in bench.files()
    assert "srv" not in bench.files()
    bench.build("FROM built\nRUN ls /d; test ! -e /srv\n", tags=("child",))
    assert bench.output == "y\n"


def test_other_contexts(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("named\n")
    contexts = {"files": str(tmp_path), "base2": "docker-image://base"}
    text = (
        "FROM base2\nCOPY --from=files file /\nCOPY --from=base2 /etc/group /g\n"
        "RUN --mount=type=bind,from=files,target=/m cat /m/file /file\n"
    )
    bench.build(text, contexts=contexts)
    assert bench.output == "named\nnamed\n"
    assert bench.build(text, contexts=contexts).built_steps == 0
    bench.build("FROM files\nENV A=1\n", contexts=contexts, tags=("tree",))
    assert bench.top("tree") == ["file"]
    assert bench.build("FROM scratch\nCOPY <<x /\n1\nx\n", context=None).built_steps == 1


def test_several_platforms(bench: Bench) -> None:
    bench.write("x", "1")
    text = "FROM --platform=$BUILDPLATFORM base AS tool\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\n"
    text += "FROM scratch\nCOPY --from=tool /arch /\n"
    bench.build(text, platforms=("linux/s390x", str(detect_platform())))
    group = bench.store.list_group("built")
    assert [one.platform for one in group] == [str(detect_platform()), "linux/s390x"]
    assert [(one.layers[0] / "arch").read_text() for one in group][1] == "s390x\n"
    assert bench.image().id == group[0].id
    assert any(one.name.startswith("[linux/s390x tool 2/2] RUN") for one in bench.events)


def test_another_platform(bench: Bench) -> None:
    bench.write("x", "1")
    bench.build("FROM scratch\nCOPY x /\n", platforms=("linux/arm64",))
    assert bench.image().platform == "linux/arm64"
    with pytest.raises(BuildError, match="cannot be executed") as caught:
        bench.build('FROM scratch\nCOPY x /\nRUN ["/x"]\n', platforms=("linux/s390x",))
    assert caught.value.location is not None


def test_a_full_disk(bench: Bench, tmp_path: Path) -> None:
    bench.write("big", b"x" * (6 << 20))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(small)], check=True)
    try:
        layout = Layout(small / "state", bench.folder / "run")
        store = ImageStore(layout)
        request = bench.request("FROM scratch\nCOPY big /one\nCOPY big /two\n")
        with pytest.raises(DiskFull):
            build_image(store, layout, request)
        assert store.fsck() == []
        assert list((layout.images / "work").iterdir()) == []
        (bench.context / "big").write_bytes(b"x" * (3 << 20))
        store.prune_cache()
        assert build_image(store, layout, request).built_steps == 2
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_base_that_is_removed_at_the_same_moment(bench: Bench, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Once its layers are protected the name does not matter; before that it is fetched again."""
    keep, pruned = Workspace.keep, []
    data = io.BytesIO()
    bench.store.save_archive(["base"], data)

    def prune(self: Workspace, identifiers: Any) -> None:
        if when == "after":
            keep(self, identifiers)
        if not pruned:
            pruned.append(bench.store.prune(unnamed_only=False))
        keep(self, identifiers)

    def pull(self: ImageStore, name: str, **_: Any) -> Any:
        assert when == "before"
        bench.store.load_archive(io.BytesIO(data.getvalue()))
        return self.require_image(name)

    monkeypatch.setattr(Workspace, "keep", prune)
    monkeypatch.setattr(ImageStore, "pull", pull)
    bench.build("FROM base\nRUN echo fine\n")
    assert bench.output == "fine\n" and pruned[0].deleted
    assert bench.store.fsck(deep=True) == []


@pytest.mark.parametrize("use", ["COPY --from=buildr /x /x", "RUN --mount=from=buildr,target=/x true"])
def test_a_misspelled_stage_is_suggested_at_its_line(bench: Bench, monkeypatch: pytest.MonkeyPatch, use: str) -> None:
    def pull(_: ImageStore, name: str, **__: Any) -> Any:
        raise RegistryUnreachable("the registry cannot be reached", hint="check the name")

    monkeypatch.setattr(ImageStore, "pull", pull)
    with pytest.raises(RegistryUnreachable) as raised:
        bench.build(f"FROM base AS builder\nFROM base\n{use}\n")
    told = raised.value.diagnostics[0]
    assert told.location is not None and told.location.line == 3
    assert told.hint == "did you mean builder? check the name"
    assert told.message.startswith("buildr: ")

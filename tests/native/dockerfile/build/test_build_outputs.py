"""``image build --output``: the result as a folder, a tar, and archives of images."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from workbench import Bench

from orchestrator.actions.build_outputs import parse_output, write_output
from orchestrator.errors import StackError

TEXT = (
    "FROM base AS made\nRUN mkdir -p /o/d && echo hi > /o/d/f && ln -s d/f /o/l\n"
    "RUN chmod 640 /o/d/f && chown 7:8 /o/d/f\n"
    "FROM scratch\nCOPY --from=made /o/ /\n"
)


def test_outputs(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = bench.build(TEXT).image_id

    def write(text: str, *names: str) -> None:
        write_output(bench.store, parse_output(text), identity, names)

    folder = tmp_path / "some/where"
    write(str(folder))
    (folder / "kept").touch()
    write(f"type=local,dest={folder}")  # over what is there
    assert sorted(os.listdir(folder)) == ["d", "kept", "l"]
    status = (folder / "d/f").stat()
    assert ((folder / "l").read_text(), status.st_uid, status.st_mode & 0o777) == ("hi\n", os.getuid(), 0o640)

    write(f"type=tar,dest={tmp_path}/files.tar")
    with tarfile.open(tmp_path / "files.tar") as tar:
        found = {one.name: (one.uid, one.gid) for one in tar.getmembers()}
    assert found["d/f"] == (7, 8)
    assert set(found) == {"d", "d/f", "l"}

    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", stream)
    write("-")
    assert stream.buffer.getvalue() == (tmp_path / "files.tar").read_bytes()  # type: ignore[attr-defined]

    (name,) = bench.store.require_image(identity).references or (identity,)
    write(f"type=oci,dest={tmp_path}/image.tar", name)
    write(f"type=oci,tar=false,dest={tmp_path}/layout", name)
    with tarfile.open(tmp_path / "image.tar") as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        assert json.load(index) == json.loads((tmp_path / "layout/index.json").read_text())
        assert "manifest.json" not in tar.getnames()
    write(f"type=docker,dest={tmp_path}/docker.tar", name)
    with tarfile.open(tmp_path / "docker.tar") as tar:
        assert "manifest.json" in tar.getnames()


def test_a_folder_that_cannot_be_written(bench: Bench, tmp_path: Path) -> None:
    identity = bench.build(TEXT).image_id
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot make the folder"):
        write_output(bench.store, parse_output(f"type=local,dest={tmp_path}/file/x"), identity, ())

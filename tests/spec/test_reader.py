"""Stack files on the disk: which name is taken, and which one was meant."""

from __future__ import annotations

import pytest

from orchestrator.spec.reader import DiskReader


@pytest.mark.parametrize(
    ("names", "found", "meant"),
    [
        (["compose.yaml", "stack.yaml"], "stack.yaml", "stack.yaml"),
        (["docker-compose.yml"], "docker-compose.yml", "docker-compose.yml"),
        (["docker_compose.yml"], None, "docker_compose.yml"),
        (["Compose.yaml", "README.md"], None, "Compose.yaml"),
        (["compose.yaml.txt", "main.py"], None, "compose.yaml.txt"),
        (["main.py", "package.json"], None, ""),
        ([], None, ""),
    ],
)
def test_a_name_that_is_nearly_right_is_found(tmp_path, names, found, meant):
    for name in names:
        (tmp_path / name).touch()
    # A folder of that name is none.
    (tmp_path / "compose.yml").mkdir()
    reader = DiskReader()
    path = reader.find_stack_file(str(tmp_path))
    assert path == (None if found is None else str(tmp_path / found))
    assert reader.find_similar(str(tmp_path)) == meant


def test_a_folder_that_cannot_be_listed_holds_nothing_similar(tmp_path):
    assert DiskReader().find_similar(str(tmp_path / "missing")) == ""

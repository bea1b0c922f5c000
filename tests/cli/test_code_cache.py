"""What ``up`` imports comes out of one file, and never out of a stale one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator

PROGRAM = """
import sys
sys.path[0] = {folder!r}
sys.argv[0] = {folder!r} + "/stack"
from orchestrator import code_cache
code_cache.use_code_cache()
import orchestrator.digest, decimal, sample
print(type(orchestrator.digest.__spec__.loader).__name__, type(sample.__spec__.loader).__name__, sample.VALUE)
import sample.inner, _decimal
print(sample.inner.__file__, sample.__path__[0], sample.inner.__package__)
code_cache.refresh_code_cache()
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the package, since the file is written beside its modules, and a package of the test's own."""
    shutil.copytree(Path(orchestrator.__file__).parent, tmp_path / "orchestrator", ignore=_leave_out)
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample/__init__.py").write_text("VALUE = 'first'\n")
    (tmp_path / "sample/inner.py").write_text("")
    return tmp_path


def _leave_out(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]


def run(site: Path, script: str = PROGRAM, **environment: str) -> tuple[str, ...]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    program = script.format(folder=str(site))
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | environment,
        cwd=site,
        capture_output=True,
        text=True,
        check=True,
    )
    own, other, value, *rest = ran.stdout.split()
    assert rest == [str(site / "sample/inner.py"), str(site / "sample"), "sample"]
    return own, other, value


def find_file(site: Path) -> Path | None:
    return next((site / "orchestrator/__pycache__").glob("up.*.codes"), None)


FILES, CACHE = "SourceFileLoader", "_Loader"


def test_modules_come_from_the_file_until_they_change(site: Path) -> None:
    assert run(site) == (FILES, FILES, "first")
    assert run(site) == (CACHE, CACHE, "first")
    (site / "sample/__init__.py").write_text("VALUE = 'second'\n")
    assert run(site) == (CACHE, FILES, "second")
    # Without what it was made of there is nothing to be served.
    shutil.rmtree(site / "orchestrator/__pycache__")
    assert run(site) == (FILES, FILES, "second")


def test_what_has_changed_meanwhile_is_not_kept(site: Path) -> None:
    """A process that runs across an upgrade holds old code beside new sources."""
    run(site)
    changed = "sample/__init__.py"
    program = f"import pathlib; pathlib.Path({str(site / changed)!r}).write_text(\"VALUE = 'new'\\n\")"
    # Enough that is not in the file yet, so that it is written anew.
    missing = "import wave, colorsys, netrc, quopri, plistlib, tabnanny, pyclbr, timeit, filecmp, fileinput, sched"
    script = PROGRAM.replace(
        "code_cache.refresh_code_cache()", f"{program}; {missing}; code_cache.refresh_code_cache()"
    )
    assert run(site, script)[2] == "first"
    assert run(site)[2] == "new"


def test_another_python_leaves_it_alone(site: Path) -> None:
    run(site)
    found = find_file(site)
    assert found is not None
    written = found.stat()
    (site / "elsewhere").mkdir()
    assert run(site, PYTHONPATH=str(site / "elsewhere")) == (FILES, FILES, "first")
    assert run(site, PYTHONOPTIMIZE="1")[0] == FILES
    assert (found.stat().st_ino, found.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert run(site)[2] == "first"


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "other"])
def test_a_damaged_file_harms_nobody(site: Path, damage: str) -> None:
    run(site)
    found = find_file(site)
    assert found is not None
    data = found.read_bytes()
    damaged = {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "zeros": bytes(len(data)),
        "other": b"\x05" + bytes(7) + b"abc",
    }
    found.write_bytes(damaged[damage])
    assert run(site) == (FILES, FILES, "first")
    assert run(site) == (CACHE, CACHE, "first")


def test_nothing_is_written_where_no_bytecode_shall_be(site: Path) -> None:
    run(site, PYTHONDONTWRITEBYTECODE="1")
    assert find_file(site) is None

"""``enable`` and ``disable``: the unit, and what systemd is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.actions.unit import UnitRequest, render_unit
from orchestrator.errors import UsageError

from .conftest import Ran


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that notes what it is asked for, and the file that it notes it in."""
    log = tmp_path / "asked"
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{log}\ntest ! -e {tmp_path}/refuse || {{ echo no >&2; exit 3; }}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STACK_UNIT_DIR", str(tmp_path / "units"))
    return log


def test_a_project_is_enabled_and_disabled(
    stack: Callable[..., Ran], systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("compose.yaml").write_text("name: shop\nservices: {web: {image: 'busybox:${TAG_OF_SHELL:-1}'}}")
    unit = systemctl.parent / "units/stack-shop.service"
    monkeypatch.setenv("TAG_OF_SHELL", "2")
    shown = stack("enable", "--print")
    assert shown.code == 0, shown.err
    assert "TAG_OF_SHELL: taken from this shell" in shown.err
    assert not unit.exists()
    monkeypatch.delenv("TAG_OF_SHELL")
    assert stack("enable", "--dry-run").out.strip() == f"write {unit}"
    assert stack("enable", "--user", "--now").code == 0
    assert systemctl.read_text().splitlines() == ["--user daemon-reload", "--user enable --now stack-shop.service"]
    text = unit.read_text()
    assert "WantedBy=default.target" in text
    assert f"--project-name shop --project-directory {os.getcwd()} up --detach" in text
    assert f"WorkingDirectory={os.getcwd()}\n" in text
    assert os.environ["STACK_STATE_DIR"] in text
    systemctl.unlink()
    assert stack("disable", "--user", "--dry-run").out.strip() == f"remove {unit}"
    assert stack("disable", "--user", "--now").code == 0
    assert systemctl.read_text().splitlines()[0] == "--user disable --now stack-shop.service"
    assert not unit.exists()
    again = stack("disable", "--user")
    assert again.code != 0
    assert "is not enabled" in again.err
    (systemctl.parent / "refuse").touch()
    refused = stack("enable", "--user")
    assert refused.code != 0
    assert "systemctl daemon-reload: no" in refused.err


def test_a_login_in_a_unit_is_warned_of_and_nobody_elses_to_read(
    stack: Callable[..., Ran], systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("compose.yaml").write_text("name: shop\nservices: {web: {image: busybox}}")
    unit = systemctl.parent / "units/stack-shop.service"
    ran = stack("enable")
    assert (ran.code, ran.err, unit.stat().st_mode & 0o777) == (0, "", 0o644)
    monkeypatch.setenv("STACK_MIRROR", "https://jane:secret@example.com/x")
    # What a run before this one could not finish is not written into.
    Path(f"{unit}.new").touch(0o644)
    ran = stack("enable")
    assert ran.code == 0
    assert "the unit holds a login" in ran.err
    assert "secret" not in ran.err
    assert unit.stat().st_mode & 0o777 == 0o600


def test_without_systemd_the_unit_is_only_shown(
    stack: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("compose.yaml").write_text("name: shop\nservices: {web: {image: busybox}}")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("STACK_UNIT_DIR", str(tmp_path / "units"))
    refused = stack("enable")
    assert refused.code != 0
    assert "there is no systemd here" in refused.err
    assert not (tmp_path / "units").exists()
    assert "WantedBy=multi-user.target" in stack("enable", "--print").out


REQUEST = UnitRequest(
    project="shop",
    program=("/usr/bin/python3", "-m", "orchestrator"),
    words=("--file", "/srv/my shop/100%/$x.yaml"),
    directory="/srv/my shop/100%",
    environment={"A": 'say "hi"', "B": "50%"},
    paths=("/var/lib/stack",),
)


def test_what_has_a_meaning_in_units_is_escaped() -> None:
    text = render_unit(REQUEST)
    assert 'ExecStart=/usr/bin/python3 -m orchestrator --file "/srv/my shop/100%%/$$x.yaml" up --detach' in text
    assert "WorkingDirectory=/srv/my shop/100%%\n" in text
    assert 'Environment="A=say \\"hi\\""\nEnvironment=B=50%%\n' in text
    assert 'RequiresMountsFor="/srv/my shop/100%%" /var/lib/stack\n' in text
    with pytest.raises(UsageError):
        render_unit(REQUEST.replace(directory="/a\nb"))


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "stack-shop.service"
    unit.write_text(render_unit(REQUEST.replace(program=("/bin/true",))))
    done = subprocess.run([program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "stack-shop" in line]
    assert ours == []

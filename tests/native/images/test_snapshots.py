from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.engines.native.snapshots import overlay_mount, read_only_mount, render_legacy_options

_A, _B = Path("/l/a"), Path("/l/b")


def test_writable() -> None:
    mount = overlay_mount([_A, _B], Path("/c/upper"), Path("/c/work"))
    assert mount.type == mount.source == "overlay"
    assert mount.options == ("lowerdir+=/l/a", "lowerdir+=/l/b", "upperdir=/c/upper", "workdir=/c/work")
    assert render_legacy_options(mount) == "lowerdir=/l/a:/l/b,upperdir=/c/upper,workdir=/c/work"


def test_in_a_user_namespace() -> None:
    assert overlay_mount([_A], Path("/u"), Path("/w"), userxattr=True).options[-1] == "userxattr"


def test_read_only() -> None:
    assert read_only_mount([_A, _B]).options == ("ro", "lowerdir+=/l/a", "lowerdir+=/l/b")
    single = read_only_mount([_A])
    assert (single.type, single.source, single.options) == ("bind", "/l/a", ("ro",))


def test_escapes_for_the_old_call() -> None:
    mount = overlay_mount([Path("/l/a:b,c")], Path("/u,1"), Path("/w"))
    assert render_legacy_options(mount) == "lowerdir=/l/a\\:b\\,c,upperdir=/u\\,1,workdir=/w"


def test_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="at least one"):
        overlay_mount([], Path("/u"), Path("/w"))

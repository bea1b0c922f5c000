from __future__ import annotations

import fcntl
import os
from pathlib import Path

from orchestrator.engines.native.runtime.sealed import lend_program
from orchestrator.engines.native.spawn import run

PROGRAM = "/bin/true"


def test_a_sealed_copy_is_lent_to_all_at_once_and_goes_with_the_last() -> None:
    with lend_program(PROGRAM) as path:
        fd = int(path.rpartition("/")[2])
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        # Exactly these: with others the runtimes make a copy of their own.
        assert seals == fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        assert Path(path).read_bytes() == Path(PROGRAM).read_bytes()
        with lend_program(PROGRAM) as other:
            assert other == path
        assert run([path]).exit_code == 0
    assert not os.path.exists(path)


def test_a_script_is_started_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "runtime"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    with lend_program(str(script)) as path:
        assert path == str(script)

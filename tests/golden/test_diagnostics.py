"""What people are told about wrong stack files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import StackError
from orchestrator.spec.loader import DiskReader, LoadOptions, load_stack

CASES = sorted(path.parent for path in (Path(__file__).parent / "diagnostics").glob("*/compose.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_diagnostics(case: Path, compare_golden: Callable[[Path, str], None]) -> None:
    with pytest.raises(StackError) as caught:
        load_stack(LoadOptions(cwd=str(case)), {"HOME": "/home/me"}, DiskReader())
    compare_golden(case / "expected.txt", caught.value.render() + "\n")

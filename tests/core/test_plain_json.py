"""The interpreter's own scanner reads what ``json.loads`` reads, refuses what that refuses, and imports nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.plain_json import load_json

VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, some.sampled_from((None, 1)), some.booleans())
def test_reads_what_json_writes(value: object, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert load_json(text) == json.loads(text) == value
    assert load_json(f" {text}\n") == value


@given(some.text(alphabet='{}[]",:0123456789.eE+-truefalsn \n\\u', max_size=12))
def test_anything_else_is_refused_as_json_refuses_it(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            load_json(text)
    else:
        assert repr(load_json(text)) == repr(expected)


def test_it_needs_no_import() -> None:
    code = "import sys; from orchestrator.plain_json import load_json; load_json('[1.5]'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"json", "re"}

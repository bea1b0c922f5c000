"""Differences between an expected fingerprint and one that was made."""

from __future__ import annotations

import re
from typing import Any

from .cases import Case

PARTS = ("files", "removed", "config", "history", "created_by", "author", "platform")


def compare_result(case: Case, golden: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """One line for everything that is not as it should be; nothing when all is well.

    `made` may have ``error`` (the whole message) and ``line`` instead of a fingerprint.
    """
    if case.error:
        return _compare_error(case, golden, made)
    if "error" in made:
        return [f"failed: {made['error']}"]
    expected = merge(golden, case.expect)
    if "error" in expected:
        return [f"the reference tool refused it: {expected['error']}"]
    found = []
    for part in PARTS:
        if part in case.ignore or (case.reference == "none" and part not in expected):
            continue
        # Every tool has its own words for the steps.
        if part == "created_by" and (case.reference != "docker" or "history" in case.ignore):
            continue
        wanted, got = expected.get(part), made.get(part)
        if isinstance(wanted, dict) and isinstance(got, dict):
            found += [line for line in _compare_mapping(part, wanted, got) if not _is_ignored(line, case)]
        elif (wanted or None) != (got or None):
            found.append(f"{part}: expected {wanted!r}, got {got!r}")
    return found


def merge(base: Any, change: Any) -> Any:
    """`base` with `change` over it: mappings member by member, None removes one, everything else replaces."""
    if not isinstance(change, dict) or not isinstance(base, dict):
        return change
    merged = dict(base)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def _compare_error(case: Case, golden: dict[str, Any], made: dict[str, Any]) -> list[str]:
    if golden and "error" not in golden and not case.why:
        return ["the reference tool builds this"]
    if "error" not in made:
        return [f"was built, but should fail with {case.error!r}"]
    found = []
    if not re.search(case.error, made["error"], re.IGNORECASE):
        found.append(f"error: expected {case.error!r}, got {made['error']!r}")
    if case.line and f":{case.line}:" not in made["error"]:
        found.append(f"error: expected line {case.line} in {made['error']!r}")
    return found


def _is_ignored(line: str, case: Case) -> bool:
    return any(line.startswith((f"{one}:", f"{one}.")) for one in case.ignore)


def _compare_mapping(part: str, wanted: dict[str, Any], got: dict[str, Any]) -> list[str]:
    found = []
    for key in sorted(wanted.keys() | got.keys()):
        if key not in got:
            found.append(f"{part}.{key}: missing, expected {wanted[key]!r}")
        elif key not in wanted:
            found.append(f"{part}.{key}: not expected, got {got[key]!r}")
        elif wanted[key] != got[key]:
            if isinstance(wanted[key], dict) and isinstance(got[key], dict):
                found += _compare_mapping(f"{part}.{key}", wanted[key], got[key])
            else:
                found.append(f"{part}.{key}: expected {wanted[key]!r}, got {got[key]!r}")
    return found

"""Names of projects that come from names of directories."""

from __future__ import annotations

_ALLOWED = frozenset("-_abcdefghijklmnopqrstuvwxyz0123456789")


def normalize_project_name(text: str) -> str:
    """Turn a directory's name into a project name: lower case, nothing but ``a-z0-9_-``, not beginning with ``_-``."""
    return "".join(one for one in text.lower() if one in _ALLOWED).lstrip("_-")

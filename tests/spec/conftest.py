"""Loading from texts in memory."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from orchestrator.errors import FileMissing, StackError
from orchestrator.spec.loader import Loaded, LoadOptions, load_stack, load_variables


class TextReader:
    """A reader of texts by absolute path; every parent of a text is a directory."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = {path: textwrap.dedent(text) for path, text in files.items()}

    def read_text(self, path: str) -> str:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def find_kind(self, path: str) -> str | None:
        if path in self.files:
            return "file"
        return "directory" if any(one.startswith(path.rstrip("/") + "/") for one in self.files) else None

    def find_stack_file(self, directory: str) -> str | None:
        names = ("stack.yaml", "compose.yaml")
        return next((f"{directory}/{name}" for name in names if f"{directory}/{name}" in self.files), None)


class FetchingReader(TextReader):
    """Finds what is elsewhere in a table."""

    def __init__(self, files: Mapping[str, str], elsewhere: Mapping[str, str]) -> None:
        super().__init__(files)
        self.elsewhere = elsewhere
        self.fetched: list[str] = []

    def fetch_remote(self, name: str) -> str:
        self.fetched.append(name)
        if name not in self.elsewhere:
            raise FileMissing(f"there is no {name}")
        return self.elsewhere[name]


Load = Callable[..., Loaded]


@pytest.fixture
def load() -> Load:
    """Load ``/app/compose.yaml`` with the given text, beside `more` files; keywords are LoadOptions."""

    def run(
        text: str = "", more: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None, **options: Any
    ) -> Loaded:
        files = {"/app/compose.yaml": text} if text else {}
        files.update(more or {})
        chosen = LoadOptions(**{"cwd": "/app", "project_name": None, **options})
        return load_stack(chosen, {"HOME": "/home/me", **(environ or {})}, TextReader(files))

    return run


@pytest.fixture
def service(load: Load) -> Callable[..., Any]:
    """Return the canonical form of the service ``web`` with the given attributes."""

    def run(attributes: str, **more: Any) -> Any:
        body = textwrap.indent(textwrap.dedent(attributes), "    ")
        return load(f"services:\n  web:\n    image: i\n{body}\n", **more).stack.tree["services"]["web"]

    return run


@pytest.fixture
def refuse(load: Load) -> Callable[..., list[str]]:
    """Load what cannot be loaded; return ``line:column code path`` of every error."""

    def run(text: str, **more: Any) -> list[str]:
        with pytest.raises(StackError) as caught:
            load(text, **more)
        return [
            f"{':'.join(map(str, one.location[1:])) if one.location else '0:0'} {one.code} {one.path}"
            for one in caught.value.diagnostics
            if one.severity == "error"
        ]

    return run


@pytest.fixture
def read() -> Callable[..., Any]:
    """Load files by name where some are elsewhere; returns what was loaded, the reader, and the variables."""

    def run(files: Mapping[str, str], *names: str, environ: Mapping[str, str] | None = None, **options: Any) -> Any:
        elsewhere = {"https://host/shop.git#v1": "/cache/shop/compose.yaml", "github.com/a/b": "/cache/b/compose.yaml"}
        reader = FetchingReader(files, elsewhere)
        asked = LoadOptions(files=names, cwd="/app", **options)
        return load_stack(asked, environ or {}, reader), reader, load_variables(asked, environ or {}, reader)

    return run

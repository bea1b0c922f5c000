"""Builds cases with this project, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.engines.native.dockerfile.builder import build_image
from orchestrator.engines.native.dockerfile.request import BuildRequest, BuildSecret
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout
from orchestrator.errors import StackError
from orchestrator.model import Ulimit

from .base import write_base
from .cases import Case
from .context import read_content, write_tree
from .fingerprint import describe_image
from .reference import TAG, render_context, write_context

MEGABYTE = 1 << 20


class OwnBuilder:
    """One store for all cases; `work` is an empty folder."""

    def __init__(self, work: Path, server: str) -> None:
        self.work = work
        self.server = server
        self.base = work / "base.tar"
        work.mkdir(parents=True, exist_ok=True)
        write_base(self.base)
        self.layout = Layout(work / "state", work / "run")
        self.store = ImageStore(self.layout)
        self.store.load_archive(self.base)

    def describe(self, case: Case) -> dict[str, Any]:
        """Build a case, and say what came out: a fingerprint, or the error as a person sees it."""
        folder = self.work / "cases" / str(case)
        try:
            for number, (reference, before) in enumerate(case.before.items()):
                self._build_before(folder / f"before{number}", reference, before)
            context = folder / "context"
            write_context(case, context, self.server)
            build_image(self.store, self.layout, render_request(case, context, self.server))
        except StackError as error:
            return {"error": error.render()}
        archive = folder / "image.tar"
        self.store.save_archive([TAG], archive)
        try:
            return describe_image(archive, self.base, self.server)
        finally:
            archive.unlink()

    def _build_before(self, folder: Path, reference: str, before: str | dict[str, Any]) -> None:
        raw = {"dockerfile": before} if isinstance(before, str) else before
        write_tree(folder, {**raw.get("files", {}), "Dockerfile": raw["dockerfile"]})
        build_image(self.store, self.layout, BuildRequest(context=str(folder), tags=(reference,)))


def render_request(case: Case, context: Path, server: str) -> BuildRequest:
    """The request that the command line would make of a case's options."""
    options = case.options
    text = case.replace_server(server)
    stdin = options.get("stdin", False)
    alone = options.get("without_context", False)
    return BuildRequest(
        context=_render_place(options, context, server),
        stdin=read_content(options["stdin_tar"]) if "stdin_tar" in options else text.encode() if alone else None,
        inline=text if stdin and not alone else None,
        dockerfile=options.get("dockerfile"),
        target=options.get("target"),
        args=options.get("args", {}),
        labels=options.get("labels", {}),
        contexts={name: render_context(one, context, server) for name, one in options.get("contexts", {}).items()},
        secrets=tuple(BuildSecret(id=name, content=text.encode()) for name, text in options.get("secrets", {}).items()),
        extra_hosts=tuple(options.get("extra_hosts", {}).items()),
        network=options.get("network", "default"),
        shm_size=int(options["shm_size"].rstrip("m")) * MEGABYTE if "shm_size" in options else None,
        ulimits={name: _parse_ulimit(one) for name, one in options.get("ulimits", {}).items()},
        source_date_epoch=options.get("source_date_epoch"),
        tags=(TAG,),
    )


def _render_place(options: dict[str, Any], context: Path, server: str) -> str:
    if "stdin_tar" in options or options.get("without_context"):
        return "-"
    return options["context"].replace("@HTTP@", server) if "context" in options else str(context)


def _parse_ulimit(text: str) -> Ulimit:
    soft, _, hard = text.partition(":")
    return Ulimit(soft=int(soft), hard=int(hard or soft))

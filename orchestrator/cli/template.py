"""Rows by ``--format``: a Go template for each, with a header on top after ``table``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.cli.gofunctions import TemplateError
from orchestrator.cli.gotemplate import Node, parse_template, render_nodes
from orchestrator.cli.table import render_table
from orchestrator.errors import UsageError

_ESCAPES = (("\\t", "\t"), ("\\n", "\n"))


def render_rows(form: str, header: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Render each row by a template (``{{.Name}}``); ``table TEMPLATE`` puts a header on top and aligns at tabs.

    `header` maps field names to column titles. Raises UsageError for a field or a function that does not exist.
    """
    as_table = form == "table" or form.startswith("table ")
    if as_table:
        form = form[len("table ") :]
    for written, meant in _ESCAPES:
        form = form.replace(written, meant)
    try:
        nodes = parse_template(form)
        lines = [_render(nodes, row) for row in rows]
    except TemplateError as error:
        raise UsageError(f"--format: {error}", hint=error.hint) from None
    if not as_table:
        return "".join(f"{line}\n" for line in lines)
    titles = "".join(_title(node, header) for node in nodes)
    return render_table(titles.split("\t"), [line.split("\t") for line in lines])


def _render(nodes: Sequence[Node], row: Mapping[str, Any]) -> str:
    if len(nodes) == 1 and nodes[0].text == "" and nodes[0].bare_dot:
        # ``{{.}}`` alone: Go would print a struct that nobody can read.
        from orchestrator.cli.gofunctions import to_json

        return to_json(row)
    return render_nodes(nodes, row)


def _title(node: Node, header: Mapping[str, str]) -> str:
    if node.text or not node.fields:
        return node.text
    return header.get(node.fields[0], node.fields[0].upper())

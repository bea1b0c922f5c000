"""``stack graph``"""

from __future__ import annotations

import sys

from orchestrator.cli.declare import Choice, Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.errors import StackError


@declare(
    "graph",
    Option(
        "--format",
        "form",
        kind=Choice("tree", "dot", "mermaid", "svg", "json"),
        default="tree",
        help="tree (default), dot, mermaid, svg or json.",
    ),
    Option("-a", "--all", "everything", flag=True, help="Dependencies that follow from others, too."),
    Option("-o", "--output", metavar="FILE", help="Write to a file."),
)
def command(invocation: Invocation, services: tuple[str, ...], form: str, everything: bool, output: str | None) -> None:
    """Show what needs what: all services, or some with what they need."""
    from orchestrator.actions.graph import draw_stack
    from orchestrator.graph import render as graph_render

    project = invocation.load(services)
    assert project.stack is not None
    drawing = draw_stack(project.stack, services)
    if form == "json":
        import json

        text = json.dumps(graph_render.dump_drawing(drawing), indent=2, ensure_ascii=False) + "\n"
    elif form == "svg":
        from orchestrator.graph.svg import render_svg

        text = render_svg(drawing, everything=everything)
    else:
        render = getattr(graph_render, f"render_{form}")
        text = render(drawing, everything=everything)
    if output is None:
        sys.stdout.write(text)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StackError(f"cannot write {output}: {error.strerror}") from error

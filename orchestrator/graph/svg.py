"""The dependency graph as an SVG picture: boxes in rows, each above what it needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from orchestrator.graph import Edge
from orchestrator.graph.layout import Layout, Point, lay_out
from orchestrator.graph.render import CONDITIONS, Drawing, describe_edge, describe_service
from orchestrator.model import Dependency

_BOX = 46.0
_MARGIN = 24.0
_LEGEND = 30.0
_LONGEST_TEXT = 34
_SPREAD = 16.0
_COLOURS = {"started": ("#64748b", "#94a3b8"), "healthy": ("#15803d", "#4ade80"), "completed": ("#1d4ed8", "#60a5fa")}
"""Stroke of each condition, on light and on dark ground."""

_STYLE = """
text { font-family: system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #0f172a; }
.name { font-size: 14px; font-weight: 600; }
.image, .legend { font-size: 11px; fill: #475569; }
.box { fill: #f8fafc; stroke: #94a3b8; stroke-width: 1.2; }
.box.critical { stroke: #0f172a; stroke-width: 2; }
.line { fill: none; stroke-width: 1.5; }
.line.critical { stroke-width: 2.8; }
.optional { stroke-dasharray: 5 4; }
.ground { fill: #ffffff; }
"""
_DARK = """
text { fill: #f1f5f9; } .image, .legend { fill: #cbd5e1; } .ground { fill: #0f172a; }
.box { fill: #1e293b; stroke: #64748b; } .box.critical { stroke: #f1f5f9; }
"""


def render_svg(drawing: Drawing, *, everything: bool = False) -> str:
    """Render a picture that stands alone; the longest chain is drawn thick, optional dependencies dashed."""
    edges = drawing.shown(everything=everything)
    widths = {name: _measure_box(drawing, name) for name in drawing.images}
    layout = lay_out(list(drawing.images), list(edges), widths)
    legend = _list_legend(drawing, edges)
    width = max(layout.width, sum(_measure(text) + 58 for text, _ in legend)) + 2 * _MARGIN
    height = layout.height + 2 * _MARGIN + (_LEGEND if legend else 0)
    title = f"What the services of {drawing.project} need"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label={quoteattr(title)}>',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}{_render_strokes(0)}",
        f"@media (prefers-color-scheme: dark) {{{_DARK}{_render_strokes(1)}}}</style>",
        _render_markers(),
        f'<rect class="ground" width="{width:.0f}" height="{height:.0f}"/>',
        f'<g transform="translate({_MARGIN:g} {_MARGIN:g})">',
        *_render_lines(drawing, edges, layout, widths),
        *(_render_box(drawing, name, layout.places[name], widths[name]) for name in drawing.images),
        "</g>",
        *_render_legend(legend, layout.height + _MARGIN + 22),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _render_strokes(ground: int) -> str:
    return "".join(
        f".line.{word} {{ stroke: {shades[ground]}; }} .head.{word} {{ fill: {shades[ground]}; }}\n"
        for word, shades in _COLOURS.items()
    )


def _render_markers() -> str:
    heads = "".join(
        f'<marker id="{word}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path class="head {word}" d="M0 0 8 4 0 8z"/></marker>'
        for word in _COLOURS
    )
    return f"<defs>{heads}</defs>"


def _measure(text: str, size: float = 11.0) -> float:
    """Estimate how wide a text is: nobody can know without the font."""
    wide = sum(1.0 if ord(one) > 0x2E80 else 0.36 if one in "il.,:;|!'jtf-" else 0.6 for one in text)
    return wide * size


def _measure_box(drawing: Drawing, name: str) -> float:
    below = _shorten(describe_service(drawing, name))
    return max(_measure(_shorten(name), 14.0) * 1.06, _measure(below), 56.0) + 28


def _shorten(text: str) -> str:
    """Cut the middle out of a long text: of an image both the registry and the tag are telling."""
    if len(text) <= _LONGEST_TEXT:
        return text
    half = _LONGEST_TEXT // 2
    return f"{text[: half - 1]}…{text[-half:]}"


def _render_box(drawing: Drawing, name: str, place: Point, width: float) -> str:
    x, y = place
    image = describe_service(drawing, name)
    critical = " critical" if name in drawing.critical_path else ""
    return (
        f"<g><title>{escape(f'{name}: {image}')}</title>"
        f'<rect class="box{critical}" x="{x - width / 2:.1f}" y="{y - _BOX / 2:.1f}" width="{width:.1f}" '
        f'height="{_BOX:g}" rx="9"/>'
        f'<text class="name" x="{x:.1f}" y="{y - 2:.1f}" text-anchor="middle">{escape(_shorten(name))}</text>'
        f'<text class="image" x="{x:.1f}" y="{y + 14:.1f}" text-anchor="middle">{escape(_shorten(image))}</text></g>'
    )


def _render_lines(
    drawing: Drawing, edges: Mapping[Edge, Dependency], layout: Layout, widths: Mapping[str, float]
) -> list[str]:
    leaves = _spread_ends(edges, layout, widths, upper=True)
    arrives = _spread_ends(edges, layout, widths, upper=False)
    steps = {(name, wanted) for wanted, name in pairwise(drawing.critical_path)}
    found = []
    for edge in sorted(edges, key=lambda edge: edge in steps):
        name, wanted = edge
        dependency = edges[edge]
        word = CONDITIONS[dependency.condition]
        kinds = f"line {word}" + (" critical" if edge in steps else "") + ("" if dependency.required else " optional")
        (start_x, start_y), *between, (end_x, end_y) = layout.lines[edge]
        way = [(start_x + leaves[edge], start_y + _BOX / 2), *between, (end_x + arrives[edge], end_y - _BOX / 2)]
        note = describe_edge(dependency) or "started"
        found.append(
            f'<path class="{kinds}" marker-end="url(#{word})" d="{_render_curve(way)}">'
            f"<title>{escape(f'{name} needs {wanted}: {note}')}</title></path>"
        )
    return found


def _spread_ends(
    edges: Mapping[Edge, Dependency], layout: Layout, widths: Mapping[str, float], *, upper: bool
) -> dict[Edge, float]:
    """Lines that meet at a box leave and reach it side by side, in the order in which they come."""
    meeting: dict[str, list[Edge]] = {}
    for edge in edges:
        meeting.setdefault(edge[0 if upper else 1], []).append(edge)
    shifts = {}
    for name, lines in meeting.items():
        lines.sort(key=lambda edge: (layout.lines[edge][1 if upper else -2][0], edge))
        step = min(_SPREAD, (widths[name] - 24) / max(len(lines) - 1, 1))
        for place, edge in enumerate(lines):
            shifts[edge] = (place - (len(lines) - 1) / 2) * step
    return shifts


def _render_curve(way: Sequence[Point]) -> str:
    """Draw through the points; every piece begins and ends upright, so that pieces join without a corner."""
    text = f"M{way[0][0]:.1f} {way[0][1]:.1f}"
    for (x, y), (next_x, next_y) in pairwise(way):
        middle = (y + next_y) / 2
        text += f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}"
    return text


def _list_legend(drawing: Drawing, edges: Mapping[Edge, Dependency]) -> list[tuple[str, str]]:
    if not edges:
        return []
    present = {one.condition for one in edges.values()}
    legend = [(f"needs it {word}", f"line {word}") for key, word in CONDITIONS.items() if key in present]
    if not all(one.required for one in edges.values()):
        legend.append(("optional", "line started optional"))
    if len(drawing.critical_path) > 2:
        seconds = f", {drawing.seconds:g} s at least" if drawing.seconds else ""
        legend.append((f"longest chain{seconds}", "line started critical"))
    return legend


def _render_legend(legend: Sequence[tuple[str, str]], y: float) -> list[str]:
    found = []
    x = _MARGIN
    for text, kinds in legend:
        found.append(f'<path class="{kinds}" d="M{x:.1f} {y:.1f}h28"/>')
        found.append(f'<text class="legend" x="{x + 34:.1f}" y="{y + 4:.1f}">{escape(text)}</text>')
        x += _measure(text) + 58
    return found

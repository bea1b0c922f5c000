"""The dependency graph as text for people and for other programs: a tree, DOT, Mermaid, JSON data. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.graph import Edge
from orchestrator.model import Dependency
from orchestrator.record import Record

CONDITIONS: Mapping[str, str] = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}
_DEEPEST = 100


class Drawing(Record):
    """What is drawn: services in the order of their names with a word about each, and what they need.

    `images` holds what each service runs; `implied` edges say nothing new; `critical_path` begins with what starts
    first, and takes `seconds` at least.
    """

    project: str
    images: Mapping[str, str]
    edges: Mapping[Edge, Dependency]
    waves: Mapping[str, int]
    replicas: Mapping[str, int]
    implied: frozenset[Edge] = frozenset()
    critical_path: tuple[str, ...] = ()
    seconds: float = 0.0

    def shown(self, *, everything: bool) -> dict[Edge, Dependency]:
        """The edges without the implied ones, or all of them."""
        return {edge: one for edge, one in self.edges.items() if everything or edge not in self.implied}


def describe_edge(dependency: Dependency) -> str:
    """Say what a dependency waits for beyond the start, as in ``healthy, optional``; empty for a plain one."""
    words = [] if dependency.condition == "service_started" else [CONDITIONS[dependency.condition]]
    if not dependency.required:
        words.append("optional")
    return ", ".join(words)


def describe_service(drawing: Drawing, name: str) -> str:
    """Return the image of a service, and how many replicas it has if not one."""
    count = drawing.replicas.get(name, 1)
    return drawing.images[name] + (f" ×{count}" if count != 1 else "")


def render_tree(drawing: Drawing, *, everything: bool = False) -> str:
    """Render what each service needs, below the services that nothing needs; a part that was shown ends in ``(*)``."""
    edges = drawing.shown(everything=everything)
    below: dict[str, list[str]] = {name: [] for name in drawing.images}
    needed = set()
    for name, wanted in edges:
        below[name].append(wanted)
        needed.add(wanted)
    lines: list[str] = []
    seen: set[str] = set()
    for name in drawing.images:
        if name in needed:
            continue
        lines.append(_join(name, "", describe_service(drawing, name)))
        seen.add(name)
        # One iterator per level that is open: a chain may be longer than Python's own stack.
        levels: list[tuple[str, str, Iterator[str]]] = [(name, "", iter(below[name]))]
        while levels:
            parent, indent, children = levels[-1]
            child = next(children, None)
            if child is None:
                levels.pop()
                continue
            last = child == below[parent][-1]
            note = describe_edge(edges[parent, child])
            again = child in seen and bool(below[child])
            text = _join(child, f"({note})" if note else "", describe_service(drawing, child))
            lines.append(f"{indent}{'└── ' if last else '├── '}{text}{'  (*)' if again else ''}")
            seen.add(child)
            deeper = indent + ("    " if last else "│   ")
            if again:
                continue
            if below[child] and len(levels) >= _DEEPEST:
                lines.append(f"{deeper}└── …")
                continue
            levels.append((child, deeper, iter(below[child])))
    if len(drawing.critical_path) > 2:
        lines += ["", f"longest chain: {' → '.join(drawing.critical_path)}{_render_seconds(drawing.seconds)}"]
    return "".join(f"{line}\n" for line in lines)


def _join(*words: str) -> str:
    return "  ".join(word for word in words if word)


def _render_seconds(seconds: float) -> str:
    return f" (its health checks take {seconds:g} s at least)" if seconds else ""


def render_dot(drawing: Drawing, *, everything: bool = False) -> str:
    """Render in the language of Graphviz."""
    lines = [
        f"digraph {_quote_dot(drawing.project)} {{",
        '  node [shape=box, style=rounded, fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    for name in drawing.images:
        label = f"{name}\n{describe_service(drawing, name)}"
        lines.append(f"  {_quote_dot(name)} [label={_quote_dot(label)}];")
    for (name, wanted), dependency in drawing.shown(everything=everything).items():
        label = describe_edge(dependency)
        settings = [f"label={_quote_dot(label)}"] if label else []
        settings += ["style=dashed"] if not dependency.required else []
        more = f" [{', '.join(settings)}]" if settings else ""
        lines.append(f"  {_quote_dot(name)} -> {_quote_dot(wanted)}{more};")
    return "\n".join([*lines, "}"]) + "\n"


def _quote_dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def render_mermaid(drawing: Drawing, *, everything: bool = False) -> str:
    """Render as a Mermaid flowchart; services are numbered, because a name like ``end`` would mean something else."""
    number = {name: f"s{index}" for index, name in enumerate(drawing.images)}
    lines = ["flowchart TD"]
    for name, key in number.items():
        lines.append(f'  {key}["{_quote_mermaid(name)}<br>{_quote_mermaid(describe_service(drawing, name))}"]')
    for (name, wanted), dependency in drawing.shown(everything=everything).items():
        label = describe_edge(dependency)
        arrow = "-->" if dependency.required else "-.->"
        lines.append(f"  {number[name]} {arrow}{f'|{label}|' if label else ''} {number[wanted]}")
    return "\n".join(lines) + "\n"


def _quote_mermaid(text: str) -> str:
    return "".join(one if one.isalnum() or one in " .:/-_@×" else f"#{ord(one)};" for one in text)


def dump_drawing(drawing: Drawing) -> dict[str, Any]:
    """Return the graph as data that JSON can carry."""
    return {
        "project": drawing.project,
        "services": [
            {"name": name, "image": image, "replicas": drawing.replicas.get(name, 1), "wave": drawing.waves[name]}
            for name, image in drawing.images.items()
        ],
        "dependencies": [
            {
                "service": name,
                "needs": wanted,
                "condition": dependency.condition,
                "required": dependency.required,
                "restart": dependency.restart,
                "implied": (name, wanted) in drawing.implied,
            }
            for (name, wanted), dependency in drawing.edges.items()
        ],
        "critical_path": {"services": list(drawing.critical_path), "seconds": drawing.seconds},
    }

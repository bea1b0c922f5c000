"""The panels beside the output, as text: why a service is as it is, and what it was made from."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.actions.console.rows import Row
from orchestrator.cli.ui.ansi import clean

if TYPE_CHECKING:
    from orchestrator.actions.console.looking import Reasons
    from orchestrator.actions.usage import UsageRow

GOOD, BAD, FAINT, HEAD = "green", "bold red", "dim", "bold"

BARS: Final = "▁▂▃▄▅▆▇█"


def render_reasons(reasons: Reasons, row: Row) -> Text:
    """The sentences first, then what is waited for, then what the health checks said."""
    text = Text()
    for one in reasons.sentences:
        text.append(f"{clean_block(one)}\n", style="" if one.startswith(" ") else HEAD)
    if row.orphan:
        text.append("the stack file has no such service any more: o removes its containers\n", style=BAD)
    if row.disabled:
        text.append("its profile is off: s starts it all the same\n")
    if reasons.needs:
        text.append("\ndepends on\n", style=FAINT)
        for need in reasons.needs:
            mark, style = ("✓", GOOD) if need.holds else ("✗", BAD if need.required else "")
            text.append(f"  {mark} ", style=style)
            optional = "" if need.required else " (not required)"
            wanted = "" if need.holds else f", and waits until it {need.condition}"
            text.append(f"{need.service}{optional} is {need.state}{wanted}\n")
    if reasons.needed_by:
        text.append("\nneeded by\n", style=FAINT)
        text.append(f"  {', '.join(reasons.needed_by)}\n")
    if reasons.check:
        text.append("\nhealth check\n", style=FAINT)
        text.append(f"  {clean(reasons.check)}\n")
    if reasons.probes:
        text.append("\nits last outputs\n", style=FAINT)
        for probe in reasons.probes:
            moment = time.strftime("%H:%M:%S", time.localtime(probe.time))
            text.append(f"  {'✓' if probe.success else '✗'} ", style=GOOD if probe.success else BAD)
            text.append(f"{moment} ", style=FAINT)
            name = f"{probe.container}: " if len(row.containers) > 1 else ""
            lines = [clean(line) for line in probe.output.splitlines()] or ["(nothing)"]
            text.append(f"{name}{lines[0]}\n")
            for line in lines[1:6]:
                text.append(f"             {line}\n")
    return text


def clean_block(text: str) -> str:
    """Foreign text of several lines, without what moves a terminal."""
    return "\n".join(clean(line) for line in text.splitlines())


def render_details(
    row: Row, facts: Sequence[tuple[str, str]], configuration: str, use: Sequence[tuple[str, Sequence[UsageRow]]]
) -> Group:
    """What is known of the containers, what they have used lately, and the configuration."""
    parts: list[RenderableType] = []
    if not facts:
        parts.append(Text(f"{row.service} has no container", style=HEAD))
    samples = dict(use)
    grid: Table | None = None
    for name, value in facts:
        if not value:
            parts.append(Text(f"{chr(10) if parts else ''}{name}", style=HEAD))
            grid = _make_grid(max((len(one) for one, text in facts if text), default=0))
            parts.append(grid)
            _add_use(grid, samples.get(name) or ())
        elif grid is not None:
            grid.add_row(name, clean(value))
    if configuration:
        parts.append(Text(f"\n{'made from' if row.containers else 'the stack file says'}", style=FAINT))
        parts += [_colour_yaml(clean(line)) for line in configuration.splitlines()]
    return Group(*parts)


def _make_grid(width: int) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 2))
    grid.add_column(style=FAINT, width=max(width, 9), no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _add_use(grid: Table, samples: Sequence[UsageRow]) -> None:
    from orchestrator.cli.quantities import render_binary_size, render_rate_size

    if not samples:
        return
    use = samples[-1].usage
    bars = Text(render_bars([one.cpu for one in samples]), style=GOOD).append(f" {samples[-1].cpu:.1f}%", style="none")
    grid.add_row("processor", bars)
    limit = f" of {render_binary_size(use.memory_limit)}" if use.memory_limit else ""
    grid.add_row("memory", f"{render_binary_size(use.memory)}{limit}, {use.pids} processes")
    traffic = f"net {render_rate_size(use.received)} in, {render_rate_size(use.sent)} out"
    grid.add_row(
        "traffic", f"{traffic}; disk {render_rate_size(use.read)} read, {render_rate_size(use.written)} written"
    )


def render_bars(values: Sequence[float], *, top: float = 0.0) -> str:
    """A row of bars, one for each value; the highest is as high as `top` or the greatest of them."""
    most = max([top, 10.0, *values])
    return "".join(BARS[min(len(BARS) - 1, int(value / most * len(BARS)))] for value in values)


_KEY = re.compile(r"(\s*(?:- )*)([^\s:][^:]*:)(.*)")


def _colour_yaml(line: str) -> Text:
    found = _KEY.fullmatch(line)
    if found is None:
        return Text(f"  {line}")
    return Text.assemble(f"  {found[1]}", (found[2], "cyan"), found[3])

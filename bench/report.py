"""Medians and ratios, as Markdown and as data."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Measurements
from scenarios import ROWS, Row, Scenario

BASE = "docker compose"
OWN = "stack"


def compute_ratio(own: dict[int, float], other: dict[int, float]) -> float | None:
    """The median of the rounds' ratios: a disturbance that hits one round hits both tools of it."""
    pairs = [own[number] / other[number] for number in own.keys() & other.keys() if other[number]]
    return median(pairs) if pairs else None


def collect_machine() -> dict[str, Any]:
    """What the figures depend on."""
    memory = Path("/proc/meminfo").read_text().split(maxsplit=2)[1]
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    system = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {
        "cpus": len(model),
        "cpu": model[0] if model else "unknown",
        "memory_bytes": int(memory) * 1024,
        "kernel": platform.release(),
        "system": system.get("PRETTY_NAME", "").strip('"'),
        "cgroups": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1 or hybrid",
    }


def summarise_row(row: Row, found: Measurements) -> dict[str, Any] | None:
    """Medians by tool and our ratio to every other; None when nothing was measured."""
    by_tool = found.samples.get(row.scenario, {}).get(row.measure, {})
    if not by_tool:
        return None
    own = by_tool.get(OWN, {})
    return {
        "title": row.title,
        "unit": "bytes" if row.measure == "memory" else "ms",
        "median": {tool: median(values.values()) for tool, values in by_tool.items()},
        "rounds": by_tool,
        "ratio": {tool: compute_ratio(own, values) for tool, values in by_tool.items() if tool != OWN and own},
        "budget": row.budget,
    }


def build_report(
    found: Measurements,
    scale: Measurements | None,
    scenarios: tuple[Scenario, ...],
    versions: dict[str, str],
    load: list[float],
) -> dict[str, Any]:
    """Everything, as it is written to the JSON file."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": collect_machine(),
        "load": load,
        "versions": versions,
        "rows": [summary for row in ROWS if (summary := summarise_row(row, found))],
        "memory_parts": found.memory_parts,
        "scale": summarise_scale(scale, scenarios) if scale else [],
        "scale_rounds": scale.samples if scale else {},
        "failures": found.failures + (scale.failures if scale else []),
    }


def summarise_scale(found: Measurements, scenarios: tuple[Scenario, ...]) -> list[dict[str, Any]]:
    """One entry a size and tool."""
    entries = []
    for scenario in scenarios:
        measures = found.samples.get(scenario.name, {})
        for tool in measures.get("up", {}):
            entry: dict[str, Any] = {"services": scenario.services, "tool": tool}
            entry |= {measure: median(values[tool].values()) for measure, values in measures.items() if tool in values}
            entries.append(entry)
    return entries


def render_value(value: float | None, unit: str) -> str:
    """Milliseconds or MiB for people."""
    if value is None:
        return "-"
    return f"{value / 2**20:.1f} MiB" if unit == "bytes" else f"{value:.0f} ms"


def render_ratio(value: float | None) -> str:
    """``1/8.3`` when faster, ``1.2`` when slower."""
    if not value:
        return "-"
    return f"1/{1 / value:.1f}" if value < 1 else f"{value:.2f}"


def render_markdown(report: dict[str, Any]) -> str:
    """The whole report as a page."""
    machine = report["machine"]
    lines = [
        "# Benchmark",
        "",
        f"{report['date']}; {machine['cpus']} CPUs ({machine['cpu']}), {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}, kernel {machine['kernel']}, cgroups {machine['cgroups']}; "
        f"load average {report['load'][0]:.1f} before, {report['load'][1]:.1f} after",
        "",
        *(f"- {tool}: {version}" for tool, version in report["versions"].items()),
        "",
    ]
    if report["rows"]:
        lines += render_comparison(report["rows"])
    if report["memory_parts"]:
        lines += ["Memory by process:", ""]
        for tools in report["memory_parts"].values():
            for tool, parts in tools.items():
                shares = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in sorted(parts.items()))
                lines.append(f"- {tool}: {shares} MiB")
        lines.append("")
    if report["scale"]:
        lines += render_scale(report["scale"])
    if report["failures"]:
        lines += ["Rounds that failed and do not count:", ""]
        lines += [f"- {failure.splitlines()[0]} ... {failure.splitlines()[-1]}" for failure in report["failures"]]
        lines.append("")
    return "\n".join(lines)


def render_comparison(rows: list[dict[str, Any]]) -> list[str]:
    """The table of medians and ratios."""
    others = sorted({tool for row in rows for tool in row["median"]} - {OWN, BASE})
    shown = [OWN, BASE, *others]
    head = ["what", *shown, f"{OWN} / {BASE}", "aim", *(f"{OWN} / {tool}" for tool in others)]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for row in rows:
        cells = [row["title"], *(render_value(row["median"].get(tool), row["unit"]) for tool in shown)]
        cells += [render_ratio(row["ratio"].get(BASE)), render_aim(row["budget"])]
        cells += [render_ratio(row["ratio"].get(tool)) for tool in others]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def render_aim(budget: float | None) -> str:
    """The ratio that is aimed at."""
    if budget is None:
        return ""
    return "no slower" if budget == 1 else f"1/{1 / budget:.0f}"


def render_scale(entries: list[dict[str, Any]]) -> list[str]:
    """The table of the scale run."""
    lines = [
        "| services | tool | `up -d` | a service | `up -d` again | `ps` | `down` | memory |",
        "|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in entries:
        times = [render_value(entry.get(measure), "ms") for measure in ("up", "again", "ps", "down")]
        each = f"{entry['up'] / entry['services']:.1f} ms"
        memory = render_value(entry.get("memory"), "bytes")
        cells = [str(entry["services"]), entry["tool"], times[0], each, *times[1:], memory]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]

"""Where the boxes and lines of a layered drawing go: each row needs only rows below it. Pure geometry.

The usual four steps: rows from the waves of starting, places on the lines' way through rows in between, an order within
rows that crosses few lines (barycentres, swept up and down), and coordinates that keep the order and bring neighbours
close to each other (isotonic regression, row by row).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from orchestrator.graph import Edge, find_waves
from orchestrator.record import Record

ROW = 104.0
"""Distance of the middles of two rows, in pixels as everything here."""
GAP = 28.0
BENDS = 12.0
_SWEEPS = 8
_MOST_BENDS = 20_000
_WIDEST = 1600.0

Point = tuple[float, float]


class Layout(Record):
    """Middles of the boxes, the points that each line passes (both ends included), and the size of it all."""

    places: Mapping[str, Point]
    lines: Mapping[Edge, tuple[Point, ...]]
    width: float
    height: float


class _Block:
    """A part of the graph that nothing connects with the rest, laid out by itself from (0, 0)."""

    def __init__(self, names: Sequence[str], edges: Sequence[Edge], widths: Mapping[str, float]) -> None:
        self.names = names
        self.edges = edges
        waves = find_waves(names, edges)
        height = max(waves.values()) + 1
        self._above: dict[int, list[int]] = {}
        self._below: dict[int, list[int]] = {}
        self._rows: list[list[int]] = [[] for _ in range(height)]
        self._widths: list[float] = []
        self._row_of: list[int] = []
        self._index = {name: self._add(height - 1 - waves[name], widths[name]) for name in names}
        spans = sum(max(waves[one] - waves[other] - 1, 0) for one, other in edges)
        bent = spans <= _MOST_BENDS
        self._chains = {edge: self._link(edge, waves, bent) for edge in edges}
        self._order_rows()
        self._xs = self._place()
        self.width = max(x + self._widths[one] / 2 for one, x in enumerate(self._xs))
        self.height = height * ROW

    def _add(self, row: int, width: float) -> int:
        index = len(self._widths)
        self._widths.append(width)
        self._row_of.append(row)
        self._rows[row].append(index)
        self._above[index], self._below[index] = [], []
        return index

    def _link(self, edge: Edge, waves: Mapping[str, int], bent: bool) -> list[int]:
        start, end = self._index[edge[0]], self._index[edge[1]]
        rows = range(self._row_of[start] + 1, self._row_of[end]) if bent else ()
        chain = [start, *(self._add(row, BENDS) for row in rows), end]
        for one, other in pairwise(chain):
            self._below[one].append(other)
            self._above[other].append(one)
        return chain

    def _order_rows(self) -> None:
        best, fewest = [list(row) for row in self._rows], self._count_crossings()
        position = {one: place for row in self._rows for place, one in enumerate(row)}
        for sweep in range(_SWEEPS):
            near = self._above if sweep % 2 == 0 else self._below
            for row in self._rows if sweep % 2 == 0 else reversed(self._rows):
                row.sort(
                    key=lambda one: (
                        sum(position[other] for other in near[one]) / len(near[one]) if near[one] else position[one]
                    )
                )
                position.update((one, place) for place, one in enumerate(row))
            crossings = self._count_crossings()
            if crossings < fewest:
                best, fewest = [list(row) for row in self._rows], crossings
            if fewest == 0:
                break
        self._rows = best

    def _count_crossings(self) -> int:
        """Count inversions between neighbouring rows; for thousands of lines the number alone is too dear to know."""
        position = {one: place for row in self._rows for place, one in enumerate(row)}
        total = 0
        for row in self._rows:
            ends = [position[other] for one in row for other in sorted(self._below[one], key=position.__getitem__)]
            if len(ends) > 400:
                return 1 << 30
            total += sum(1 for at, one in enumerate(ends) for other in ends[:at] if other > one)
        return total

    def _place(self) -> list[float]:
        xs = [0.0] * len(self._widths)
        for row in self._rows:
            for place, one in enumerate(row):
                before = row[place - 1] if place else None
                xs[one] = self._widths[one] / 2 if before is None else xs[before] + self._distance(before, one)
        for sweep in range(_SWEEPS):
            for row in self._rows if sweep % 2 == 0 else reversed(self._rows):
                self._settle(row, xs)
        left = min(x - self._widths[one] / 2 for one, x in enumerate(xs))
        return [x - left for x in xs]

    def _distance(self, one: int, other: int) -> float:
        return (self._widths[one] + self._widths[other]) / 2 + GAP

    def _settle(self, row: Sequence[int], xs: list[float]) -> None:
        """Move a row as close to its neighbours as its order and distances allow (pool adjacent violators)."""
        offset = 0.0
        pools: list[list[float]] = []  # sum of weights, weighted mean, number of members
        offsets = []
        for place, one in enumerate(row):
            if place:
                offset += self._distance(row[place - 1], one)
            offsets.append(offset)
            near = [*self._above[one], *self._below[one]]
            wish = sum(xs[other] for other in near) / len(near) if near else xs[one]
            # Lines that run straight are worth more than boxes in the middle of their lines.
            pools.append([4.0 if self._widths[one] == BENDS else 1.0, wish - offset, 1.0])
            while len(pools) > 1 and pools[-2][1] > pools[-1][1]:
                weight, mean, count = pools.pop()
                last = pools[-1]
                last[1] = (last[0] * last[1] + weight * mean) / (last[0] + weight)
                last[0] += weight
                last[2] += count
        place = 0
        for _, mean, count in pools:
            for _ in range(int(count)):
                xs[row[place]] = mean + offsets[place]
                place += 1

    def find_place(self, index: int) -> Point:
        return self._xs[index], self._row_of[index] * ROW + ROW / 2

    def list_places(self) -> dict[str, Point]:
        return {name: self.find_place(index) for name, index in self._index.items()}

    def list_lines(self) -> dict[Edge, list[Point]]:
        return {edge: [self.find_place(one) for one in chain] for edge, chain in self._chains.items()}


def lay_out(names: Sequence[str], edges: Iterable[Edge], widths: Mapping[str, float]) -> Layout:
    """Lay out an acyclic graph; `widths` are those of the boxes. What is connected stands together."""
    known = list(edges)
    blocks = [_Block(part, lines, widths) for part, lines in _split_parts(names, known)]
    total = sum((block.width + GAP) * block.height for block in blocks)
    limit = max([*(block.width for block in blocks), min((total * 2.0) ** 0.5, _WIDEST)], default=0.0)
    places: dict[str, Point] = {}
    lines: dict[Edge, tuple[Point, ...]] = {}
    left = top = lowest = right = 0.0
    for block in blocks:
        if left and left + block.width > limit:
            left, top = 0.0, lowest
        places.update({name: (x + left, y + top) for name, (x, y) in block.list_places().items()})
        lines.update({edge: tuple((x + left, y + top) for x, y in way) for edge, way in block.list_lines().items()})
        left += block.width + GAP
        lowest = max(lowest, top + block.height)
        right = max(right, left - GAP)
    return Layout(places=places, lines=lines, width=right, height=lowest)


def _split_parts(names: Sequence[str], edges: Sequence[Edge]) -> list[tuple[list[str], list[Edge]]]:
    """Return the connected parts with their edges, the largest first."""
    near: dict[str, list[str]] = {name: [] for name in names}
    for one, other in edges:
        near[one].append(other)
        near[other].append(one)
    part_of: dict[str, int] = {}
    parts: list[tuple[list[str], list[Edge]]] = []
    for name in names:
        if name in part_of:
            continue
        part_of[name] = len(parts)
        found = [name]
        for one in found:
            for other in near[one]:
                if other not in part_of:
                    part_of[other] = len(parts)
                    found.append(other)
        parts.append((found, []))
    for edge in edges:
        parts[part_of[edge[0]]][1].append(edge)
    return sorted(parts, key=lambda part: -len(part[0]))

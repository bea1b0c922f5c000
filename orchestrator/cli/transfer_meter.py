"""What is said of an image on its way: how much of it is here, how fast it comes, how long that will take. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.events import Event

LAYER_VERBS = {"pull image": "pull layer", "push image": "push layer"}
WINDOW = 4.0
"""Seconds whose bytes make the rate: long enough to be steady, short enough to notice a slow line."""


class _Flow:
    """Bytes so far, and their rate over the last seconds."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def add(self, now: float, current: int) -> None:
        self._marks.append((now, current))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW:
            self._marks.popleft()

    def rate(self) -> float:
        """Bytes a second, 0 while nothing can be said."""
        if len(self._marks) < 2:
            return 0.0
        (begun, before), (now, current) = self._marks[0], self._marks[-1]
        return (current - before) / (now - begun) if now > begun else 0.0


class _Layer:
    __slots__ = ("current", "flow", "status", "total")

    def __init__(self) -> None:
        self.status, self.current, self.total = "", 0, 0
        self.flow = _Flow()


class TransferMeter:
    """Takes the events of transfers; gives for each what is to be shown: the image as a whole, and the layer."""

    def __init__(self) -> None:
        self._images: dict[tuple[str, str], tuple[dict[str, _Layer], _Flow]] = {}

    def expand(self, event: Event) -> list[Event]:
        """The event itself, in words if it tells of a layer; and one of the layer. Others pass as they are."""
        name = event.details.get("layer")
        if event.verb not in LAYER_VERBS or event.phase != "progress" or not name:
            return [event]
        layers, flow = self._images.setdefault((event.verb, event.subject), ({}, _Flow()))
        layer = layers.setdefault(name, _Layer())
        layer.status = event.message
        layer.current, layer.total = int(event.details["current"]), int(event.details["total"])
        moving = [one for one in layers.values() if one.status != "exists"]
        current, total = sum(one.current for one in moving), sum(one.total for one in moving)
        if layer.status not in ("waiting", "exists"):
            layer.flow.add(event.time, layer.current)
            flow.add(event.time, current)
        whole = event.replace(message=_render_image(layers, current, total, flow.rate()))
        return [whole] if layer.status in ("waiting", "exists") else [whole, _tell_layer(event, name, layer)]


def _tell_layer(event: Event, name: str, layer: _Layer) -> Event:
    done = layer.status == "done"
    return event.replace(
        subject=name.rpartition(":")[2][:12],
        verb=LAYER_VERBS[event.verb],
        phase="done" if done else "progress",
        message="" if done else render_flow(layer.current, layer.total, layer.flow.rate()),
    )


def _render_image(layers: dict[str, _Layer], current: int, total: int, rate: float) -> str:
    ready = sum(one.status in ("done", "exists") for one in layers.values())
    counted = f"{ready} of {len(layers)}"
    return f"{counted}  {render_flow(current, total, rate)}" if total else counted


def render_flow(current: int, total: int, rate: float) -> str:
    """``12.1/58.0MB 21.3MB/s 2s left``; rate and time only where they are known. Short: terminals have 80 columns."""
    whole, unit = _split_bytes(total)
    part, smaller = _split_bytes(current)
    text = f"{part}/{whole}{unit}" if unit == smaller or not current else f"{part}{smaller}/{whole}{unit}"
    if rate <= 0 or current >= total:
        return text
    speed, second = _split_bytes(rate)
    return f"{text} {speed}{second}/s {render_left((total - current) / rate)} left"


def _split_bytes(count: float) -> tuple[str, str]:
    """Number and unit, of a width that does not dance: whole bytes and kilobytes, above that one place."""
    for limit, size, unit in ((1e3, 1.0, "B"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if count < limit:
            return f"{count / size:.{1 if unit == 'MB' else 0}f}", unit
    return f"{count / 1e9:.1f}", "GB"


def render_left(seconds: float) -> str:
    """``8s``, ``2m05s``, ``1h10m``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"

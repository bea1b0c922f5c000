"""What a display says of an image on its way."""

from __future__ import annotations

from orchestrator.cli.transfer_meter import TransferMeter, render_flow, render_left
from orchestrator.events import Event


def tell(time: float, layer: str, status: str, current: int, total: int, verb: str = "pull image") -> Event:
    return Event(
        time=time,
        kind="operation",
        subject="web:1",
        verb=verb,
        phase="progress",
        message=status,
        details={"layer": f"sha256:{layer * 64}", "current": current, "total": total},
    )


def test_bytes_rate_and_time_left() -> None:
    meter = TransferMeter()
    meter.expand(tell(0, "a", "waiting", 0, 40_000_000))
    (whole,) = meter.expand(tell(0, "b", "waiting", 0, 10_000_000))
    assert whole.message == "0 of 2  0/50.0MB"
    (whole,) = meter.expand(tell(0, "b", "exists", 10_000_000, 10_000_000))
    assert whole.message == "1 of 2  0/40.0MB"
    meter.expand(tell(1, "a", "downloading", 5_000_000, 40_000_000))
    whole, layer = meter.expand(tell(2, "a", "downloading", 15_000_000, 40_000_000))
    assert whole.message == "1 of 2  15.0/40.0MB 10.0MB/s 2s left"
    assert (layer.subject, layer.verb, layer.phase) == ("a" * 12, "pull layer", "progress")
    assert layer.message == "15.0/40.0MB 10.0MB/s 2s left"
    whole, layer = meter.expand(tell(3, "a", "done", 40_000_000, 40_000_000))
    assert whole.message == "2 of 2  40.0/40.0MB"
    assert (layer.phase, layer.message) == ("done", "")


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = TransferMeter()
    for second in range(20):
        speed = 1_000_000 if second < 10 else 2_000_000
        done = min(second, 10) * 1_000_000 + max(0, second - 10) * speed
        whole, _ = meter.expand(tell(second, "a", "downloading", done, 100_000_000))
    assert "2.0MB/s" in whole.message


def test_other_events_pass() -> None:
    event = Event(time=0, kind="operation", subject="web:1", verb="pull image", phase="done")
    assert TransferMeter().expand(event) == [event]


def test_words() -> None:
    assert render_flow(500, 2000, 0) == "500B/2kB"
    assert render_flow(500, 2000, 100) == "500B/2kB 100B/s 15s left"
    assert [render_left(one) for one in (0.2, 59.4, 125, 4200)] == ["1s", "59s", "2m05s", "1h10m"]

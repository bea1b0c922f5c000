"""Logs: parsed, from the end, merged, followed through rotations without losing a line."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from boxes import BoxMaker

from orchestrator.engines.base import LogLine
from orchestrator.engines.native.runtime.log_rotation import LogPolicy, LogRotator, parse_log_policy, rotate_log
from orchestrator.engines.native.runtime.logs import LogSource, list_log_files, moment_of, read_logs, render_moment
from orchestrator.errors import EngineError
from orchestrator.model import Logging


def line(second: int, text: str, stream: str = "stdout", tag: str = "F") -> str:
    return f"2026-01-02T03:04:{second:02d}.000000001+00:00 {stream} {tag} {text}\n"


def source(path: Path, name: str = "web-1") -> LogSource:
    return LogSource(path=str(path), container=name, service="web")


def texts(lines: list[LogLine]) -> list[str]:
    return [one.text for one in lines]


def test_lines_and_their_parts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        line(1, "begin ", tag="P")
        + line(2, "err", "stderr")
        + line(3, "end")
        + line(4, "")
        + line(5, "a  b \r")
        + "2026-01-02T03:04:06.0+00:00 stdout F no newline yet"
    )
    found = list(read_logs([source(log)]))
    assert texts(found) == ["err", "begin end", "", "a  b "] or texts(found) == ["begin end", "err", "", "a  b "]
    assert next(one for one in found if one.text == "begin end").time == "2026-01-02T03:04:01.000000001+00:00"
    assert {one.stream for one in found} == {"stdout", "stderr"}
    assert found[0].container == "web-1"
    assert found[0].service == "web"


def test_no_log_yet(tmp_path: Path) -> None:
    assert list(read_logs([source(tmp_path / "none")])) == []
    assert list(read_logs([source(tmp_path / "none")], tail=3)) == []


@pytest.mark.parametrize("count", [0, 1, 2, 7, 5000, 25_000])
def test_the_end_across_rotated_files(tmp_path: Path, count: int) -> None:
    log = tmp_path / "log"
    # A text that looks like a line's own tag, to be counted as one line only.
    everything = [f"{number} stdout F {'x' * (number % 50)}" for number in range(20_000)]
    for name, first in (("log.2", 0), ("log.1", 7000), ("log", 14_000)):
        part = everything[first : {"log.2": 7000, "log.1": 14_000, "log": 20_000}[name]]
        (tmp_path / name).write_text("".join(line(1, text) for text in part))
    assert list_log_files(str(log)) == [str(tmp_path / name) for name in ("log.2", "log.1", "log")]
    assert texts(list(read_logs([source(log)], tail=count))) == (everything[-count:] if count else [])
    assert texts(list(read_logs([source(log)]))) == everything


def test_a_line_that_a_rotation_has_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "log.1").write_text(line(1, "one") + line(2, "first half, ", tag="P"))
    log.write_text(line(3, "second half") + line(4, "last"))
    for wanted in (None, 3):
        assert texts(list(read_logs([source(log)], tail=wanted))) == ["one", "first half, second half", "last"]


def test_since_and_until(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(line(second, str(second)) for second in range(10)))
    start = 1767323040.0  # 2026-01-02T03:04:00Z
    assert texts(list(read_logs([source(log)], since=start + 3))) == [str(one) for one in range(3, 10)]
    assert texts(list(read_logs([source(log)], since=start + 3, until=start + 5.5))) == ["3", "4", "5"]
    assert texts(list(read_logs([source(log)], since=start + 3, tail=2))) == ["8", "9"]


def test_times_of_other_zones() -> None:
    assert moment_of("2026-01-02T03:04:05.123456789+02:00") == "2026-01-02T01:04:05.123456789"
    assert moment_of("2026-01-02T03:04:05.123456789+00:00") == render_moment(1767323045)[:-9] + "123456789"


def test_several_containers_in_the_order_of_time(tmp_path: Path) -> None:
    for name, seconds in (("a", (1, 4, 5)), ("b", (2, 3, 6))):
        (tmp_path / name).write_text("".join(line(second, f"{name}{second}") for second in seconds))
    found = list(read_logs([source(tmp_path / name, name) for name in "ab"]))
    assert texts(found) == ["a1", "b2", "b3", "a4", "a5", "b6"]
    assert [one.container for one in found] == list("abbaab")


class Follower:
    """Follows in a thread of its own."""

    def __init__(self, *sources: LogSource, **options: object) -> None:
        self.lines: list[str] = []
        self.ended = False
        self._thread = threading.Thread(target=self._run, args=(sources, options))
        self._thread.start()

    def _run(self, sources: tuple[LogSource, ...], options: dict[str, object]) -> None:
        for one in read_logs(sources, follow=True, stopped=lambda: self.ended, **options):  # type: ignore[arg-type]
            self.lines.append(one.text)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text not in self.lines:
            assert time.monotonic() < deadline, f"{text} did not come"
            time.sleep(0.01)

    def end(self) -> list[str]:
        self.ended = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.lines


def test_follow_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    log = tmp_path / "folder" / "log"
    follower = Follower(source(log))
    time.sleep(0.05)
    log.parent.mkdir(exist_ok=True)
    log.write_text(line(1, "first"))
    follower.wait_for("first")
    with log.open("a") as file:
        file.write(line(2, "second") + "2026-01-02T03:04:03.0+00:00 stdout F thi")
        file.flush()
        follower.wait_for("second")
        file.write("rd\n")
    follower.wait_for("third")
    assert follower.end() == ["first", "second", "third"]


def test_follow_from_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(line(1, str(one)) for one in range(100)))
    follower = Follower(source(log), tail=2)
    follower.wait_for("99")
    with log.open("a") as file:
        file.write(line(2, "new"))
    follower.wait_for("new")
    assert follower.end() == ["98", "99", "new"]


def test_rotation_loses_nothing(one_box: BoxMaker) -> None:
    script = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); [ $((i%200)) = 0 ] && sleep 0.03; done; echo end"
    made = one_box("sh", "-c", script)
    made.launch()
    rotator = LogRotator(made.layout)
    rotator.add(made.id, str(made.log), LogPolicy(max_size=20_000, max_files=100))
    follower = Follower(source(made.log))
    try:
        made.wait()
        follower.wait_for("end")
    finally:
        rotator.close()
        lines = follower.end()
    wanted = [f"line {number}" for number in range(4000)] + ["end"]
    assert lines == wanted
    assert len(list_log_files(str(made.log))) > 1
    assert made.output() == "\n".join(wanted)


def test_rotation_keeps_the_number_of_files(one_box: BoxMaker) -> None:
    made = one_box("sh", "-c", "while read x; do echo $x; done", stdin_open=True)
    made.launch()
    for number in range(4):
        made.log.write_text(line(1, str(number)))
        rotate_log(made.layout, made.id, str(made.log), 3)
        deadline = time.monotonic() + 60
        while not made.log.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [Path(path).name for path in list_log_files(str(made.log))] == ["log.2", "log.1", "log"]
    assert texts(list(read_logs([source(made.log)]))) == ["2", "3"]
    made.log.write_text(line(1, "last"))
    rotate_log(made.layout, made.id, str(made.log), 1)
    assert made.log.exists()
    assert not Path(f"{made.log}.1").exists()


@pytest.mark.parametrize(
    ("driver", "options", "policy"),
    [
        (None, {}, LogPolicy()),
        ("json-file", {"max-size": "10m", "max-file": "3"}, LogPolicy(max_size=10 << 20, max_files=3)),
        ("json-file", {"max-size": "1.5k"}, LogPolicy(max_size=1536)),
        ("local", {}, LogPolicy(max_size=20 << 20, max_files=5)),
        ("none", {}, LogPolicy(keep=False)),
    ],
)
def test_policies(driver: str | None, options: dict[str, str], policy: LogPolicy) -> None:
    assert parse_log_policy(Logging(driver=driver, options=options)) == policy


@pytest.mark.parametrize("options", [{"max-size": "big"}, {"max-file": "0"}, {"max-size": "1x"}])
def test_policies_that_are_none(options: dict[str, str]) -> None:
    with pytest.raises(EngineError):
        parse_log_policy(Logging(driver="json-file", options=options))


def test_much_is_followed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.engines.native.runtime.logs._PIECE", 100)
    path, over = tmp_path / "log", threading.Event()
    path.write_text(line(1, "0"))
    followed = read_logs([source(path)], follow=True, stopped=over.is_set)
    found = [next(followed).text]
    # All of it is there already: no change is going to tell of the pieces behind the first.
    expected = [*(str(number) for number in range(1, 40)), "x" * 1000, "last"]
    with path.open("a") as file:
        file.writelines(line(2, text) for text in expected)
    over.set()
    found += [one.text for one in followed]
    assert found == ["0", *expected]

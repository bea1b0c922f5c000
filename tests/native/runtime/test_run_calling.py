"""The folder in which callers wait for their containers: it comes with the first of them and goes with the last."""

from __future__ import annotations

import threading
from pathlib import Path

from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.runtime.calling import Caller


def test_one_comes_while_another_goes(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state", tmp_path / "run")
    layout.run.mkdir()
    failed: list[BaseException] = []

    def come_and_go(name: str) -> None:
        try:
            for _ in range(300):
                with Caller(layout, name):
                    assert (layout.run / "callers" / name).exists()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=come_and_go, args=(f"{number:064x}"[-24:],)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed
    assert not (layout.run / "callers").exists()

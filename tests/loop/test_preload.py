"""What the supervisor leaves out of asyncio's imports comes when it is used, and is whole for everybody else."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from orchestrator.supervision.preload import import_asyncio, _LATER
import_asyncio()
left_out = [name for name in (*_LATER, "ssl") if name in sys.modules]
assert not left_out, left_out
import asyncio, traceback

def fail():
    raise ValueError("as it should be")

async def work():
    assert asyncio.iscoroutinefunction(work) and not asyncio.iscoroutinefunction(fail)
    running = asyncio.get_running_loop()
    running.add_signal_handler(15, fail)
    running.remove_signal_handler(15)
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
    try:
        fail()
    except ValueError:
        return traceback.format_exc()

told = asyncio.run(work())
assert "as it should be" in told and "work" in told, told
import inspect, linecache, locale, textwrap, ssl
assert inspect.getdoc(inspect) and linecache.cache is not None and textwrap.dedent(" a") == "a" and locale.getlocale()
assert [type(sys.modules[name]).__name__ for name in _LATER] == ["module"] * len(_LATER)
"""


def test_what_is_left_out_comes_when_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""A program of its own for the exec tests: it has a terminal, gets signals, and exits with the command's code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from orchestrator.engines.base import ExecRequest
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.runtime.exec import Target, exec_attached
from orchestrator.engines.native.runtime.facts import observe_host
from orchestrator.engines.native.runtime.oci_runtime import load_runtime


def main() -> int:
    state, run, runtime, container, request = sys.argv[1:]
    layout = Layout(Path(state), Path(run))
    target = Target(layout, load_runtime(layout, observe_host().cgroups, runtime), container)
    fields = json.loads(request)
    fields["command"] = tuple(fields["command"])
    return exec_attached(target, ExecRequest(**fields))


if __name__ == "__main__":
    sys.exit(main())

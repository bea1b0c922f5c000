"""``python -m orchestrator``."""

from __future__ import annotations

from orchestrator.cli.main import start

if __name__ == "__main__":
    start()

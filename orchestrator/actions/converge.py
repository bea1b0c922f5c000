"""Handing a goal to the project's supervisor and waiting until it is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.events import Sink
    from orchestrator.goal import Goal

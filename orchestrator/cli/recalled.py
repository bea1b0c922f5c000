"""What ``config`` printed before is printed again while nothing that it depends on has changed.

Most of its time is Python's own: reading YAML, and importing what understands it. This is asked before any import.
"""

from __future__ import annotations

from orchestrator.actions.memory import describe_question, recall, remember

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.actions.memory import Signature

_KIND = "config"

_question = ""


def recall_output(arguments: Sequence[str]) -> bytes | None:
    """Return what these words printed before, if it still holds; otherwise what they will print can be kept."""
    global _question
    _question = describe_question(arguments)
    return recall(_KIND, _question)


def keep_output(text: str, seen: Mapping[str, Signature | None]) -> None:
    """Remember what the present words print; `seen` is every path that was looked at."""
    if _question:
        remember(_KIND, _question, seen, text.encode())

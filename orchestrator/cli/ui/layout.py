"""How the screen is divided, and how wide and high it has to be for what."""

from __future__ import annotations

from typing import Final

WIDTHS: Final = [(0, "-narrow"), (60, "-wide")]
HEIGHTS: Final = [(0, "-tiny"), (12, "-low"), (19, "-high")]
"""Classes of the screen by its least number of columns and rows."""

CSS: Final = """
Screen { layout: vertical; }
#summary, #tabs, #news-title, #news { text-wrap: nowrap; text-overflow: ellipsis; }
#summary { height: 1; background: $panel; color: $foreground; padding: 0 1; }
#services { height: auto; max-height: 40%; min-height: 3; scrollbar-size-vertical: 1; overflow-x: hidden; }
#tabs { height: 1; background: $panel; color: $foreground; padding: 0 1; }
#panels { height: 1fr; min-height: 1; }
#log, #why, #details { height: 1fr; scrollbar-size: 1 1; }
#log { overflow-y: scroll; }
#why, #details { padding: 0 1; overflow-x: hidden; }
#search { height: 1; border: none; padding: 0 1; background: $boost; display: none; }
#search.-open { display: block; }
#search:focus { border: none; }
#news-title { height: 1; background: $panel; color: $foreground-muted; padding: 0 1; }
#news { height: 4; padding: 0 1; }
#keys { height: auto; max-height: 2; background: $panel; padding: 0 1; }

.-low #news, .-low #news-title, .-tiny #news, .-tiny #news-title { display: none; }
.-low #keys, .-tiny #keys, .-narrow #keys { max-height: 1; }
.-tiny #services { max-height: 60%; min-height: 2; }
.-tiny #summary, .-tiny #tabs { display: none; }
.-zoomed #services, .-zoomed #news, .-zoomed #news-title { display: none; }

ServiceTable > .table--header { color: $foreground-muted; text-style: bold; }
ServiceTable > .table--cursor { background: $primary 55%; color: $foreground; text-style: bold; }
ServiceTable > .table--good { color: $text-success; }
ServiceTable > .table--busy { color: $text-warning; }
ServiceTable > .table--warn { color: $text-warning; }
ServiceTable > .table--bad { color: $text-error; text-style: bold; }
ServiceTable > .table--off { text-style: dim; }
ServiceTable:nocolor > .table--cursor { text-style: reverse; }
OutputView > .output--match { background: $warning; color: black; }
OutputView > .output--current { background: $accent; color: black; text-style: bold; }
OutputView:nocolor > .output--match { text-style: underline; }
OutputView:nocolor > .output--current { text-style: reverse; }

Question, Help { align: center middle; background: $background 60%; }
#dialog { width: 76; max-width: 96%; height: auto; max-height: 90%; padding: 0 1; }
#dialog { background: $surface; border: round $primary; }
#dialog-body { height: auto; max-height: 100%; scrollbar-size-vertical: 1; margin: 0 0 1 0; }
#dialog-keys { dock: bottom; height: 1; color: $foreground-muted; }
ToastRack { margin-bottom: 2; }
Toast { max-width: 80%; }
"""

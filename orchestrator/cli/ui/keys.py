"""The keys: one table for the bindings, the footer and the help."""

from __future__ import annotations

from typing import Final, NamedTuple

from textual.binding import Binding, BindingType


class Key(NamedTuple):
    """One key. `name` is textual's, `shown` what stands on it, `label` one word for the footer (empty: only in the
    help), `text` what it does."""

    name: str
    shown: str
    action: str
    label: str
    text: str


KEYS: Final = (
    Key("s", "s", "start", "start", "start the service; create it, and what it depends on, if it is not there"),
    Key("x", "x", "stop", "stop", "stop the service"),
    Key("r", "r", "restart", "restart", "restart the service"),
    Key("K", "K", "kill", "kill", "send SIGKILL to the containers of the row"),
    Key("p", "p", "pause", "pause", "freeze the containers of the row, or let them go on"),
    Key("plus,equals_sign", "+", "scale(1)", "scale", "one replica more"),
    Key("minus", "-", "scale(-1)", "", "one replica less"),
    Key("e", "e", "shell", "shell", "a shell in the container; its end leads back here"),
    Key("b", "b", "rebuild", "rebuild", "build the image of the service again, and replace its containers"),
    Key("u", "u", "propose('up')", "up", "bring the whole project up (shows the plan and asks)"),
    Key("d", "d", "propose('down')", "down", "take the whole project down (shows the plan and asks); volumes stay"),
    Key("o", "o", "propose('remove orphans')", "orphans", "remove containers that the stack file does not name (asks)"),
    Key("slash", "/", "search", "search", "search the output; Enter keeps the matches, Escape forgets them"),
    Key("f", "f", "follow", "follow", "pause the output, or follow it again"),
    Key("z", "z", "zoom", "zoom", "the panel alone, or the list with it"),
    Key("question_mark", "?", "help", "help", "this page"),
    Key("q", "q", "quit", "quit", "leave; the services go on (Ctrl-C does the same)"),
    Key("up", "↑ ↓", "cursor(-1)", "", "choose a row (also with j, or the mouse)"),
    Key("down,j", "", "cursor(1)", "", ""),
    Key("1", "1 2 3", "panel('log')", "", "output, why, details; Tab goes through them"),
    Key("2", "", "panel('why')", "", ""),
    Key("3", "", "panel('details')", "", ""),
    Key("tab,right", "", "next_panel(1)", "", ""),
    Key("shift+tab,left", "", "next_panel(-1)", "", ""),
    Key("n", "n N", "match(1)", "", "the next match, the one before"),
    Key("N", "", "match(-1)", "", ""),
    Key("t", "t", "times", "", "show when each line was written, or not"),
    Key("w", "w", "wrap", "", "break long lines, or cut them"),
    Key("pageup", "PgUp PgDn", "page(-1)", "", "scroll the panel; also Shift with arrows, Home, End, the wheel"),
    Key("pagedown,space", "", "page(1)", "", ""),
    Key("shift+up", "", "line(-1)", "", ""),
    Key("shift+down", "", "line(1)", "", ""),
    Key("home", "", "edge(-1)", "", ""),
    Key("end", "", "edge(1)", "", ""),
    Key("escape", "", "escape", "", ""),
    Key("ctrl+z", "Ctrl-Z", "suspend_process", "", "back to the shell for a while; `fg` comes back"),
)


def make_bindings() -> list[BindingType]:
    """The keys for textual. Ctrl-C and Tab have other meanings for some widgets: here they come first."""
    leave = Binding("ctrl+c", "quit", show=False, priority=True)
    return [leave, *(Binding(one.name, one.action, show=False, priority="tab" in one.name) for one in KEYS)]

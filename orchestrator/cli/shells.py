"""What shells and the completion say to each other: a script for each shell, the words of its line, our answer.

Every shell sends the line up to the cursor (``_STACK_LINE``) and the words are read here: shells cut words at different
characters, bash even at a colon, which stands in most names of images.
"""

from __future__ import annotations

import os
import re
from typing import Final

from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

_CURSOR: Final = "\x1f"
"""Stands where the cursor is, so that an empty word is one, too."""

_SPECIAL: Final = re.compile(r"[^\w@%+=:,./-]")


class LineComplete(ShellComplete):
    """What is the same for all shells: a line that ends at the cursor, one answer a line."""

    source_template = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words behind ``stack``, and the one that the cursor is in."""
        words, last = read_line(_read_variable("_STACK_LINE"))
        return words[1:], last

    def complete(self) -> str:
        """One answer a line, none when there is nothing to offer."""
        args, word = self.get_completion_args()
        # `get_completions` takes the option from the front of `--profile=de`.
        option = word[: word.index("=") + 1] if word.startswith("-") and "=" in word else ""
        return "\n".join(self.render(item, option, word) for item in self.get_completions(args, word))

    def render(self, item: CompletionItem[str], option: str, word: str) -> str:
        """The answer; `option` is ``--name=`` when `item` is a value behind it in the same `word`."""
        raise NotImplementedError


class BashComplete(LineComplete):
    """Bash puts an answer in the place of the part that it takes for the word (``_STACK_WORD``)."""

    name = "bash"
    source_template = """\
_stack_completion() {
    local kind word
    COMPREPLY=()
    while IFS=, read -r kind word; do
        case $kind in
            plain) COMPREPLY+=("$word") ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done <<< "$(_STACK_COMPLETE=bash_complete _STACK_LINE="${COMP_LINE:0:COMP_POINT}" _STACK_WORD="$2" \\
        "${1/#\\~\\//$HOME/}" 2>/dev/null)"
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:/] ]]; then
        compopt -o nospace
    fi
}

complete -o nosort -F _stack_completion stack
"""

    def render(self, item: CompletionItem[str], option: str, word: str) -> str:
        """The part of the value that is behind what bash leaves alone."""
        if item.type != "plain":
            return f"{item.type},"
        part = read_line(_read_variable("_STACK_WORD"))[1]
        kept = word.removesuffix(part)
        value = f"{option}{item.value}".removeprefix(kept)
        quoted = _is_quoted(_read_variable("_STACK_LINE"))
        return "plain," + (value if quoted else _SPECIAL.sub(lambda found: f"\\{found[0]}", value))


class ZshComplete(LineComplete):
    """Zsh is told to look behind an option's equals sign only; it quotes by itself."""

    name = "zsh"
    source_template = """\
#compdef stack

_stack_completion() {
    local line kind word text
    local -a whole begun
    local before="${(j: :)words[1,CURRENT-1]} $PREFIX"
    [[ $PREFIX == -*=* ]] && compset -P 1 '*='
    for line in "${(@f)$(_STACK_COMPLETE=zsh_complete _STACK_LINE="$before" ${(Q)~words[1]} 2>/dev/null)}"; do
        IFS=$'\\t' read -r kind word text <<< "$line"
        case $kind in
            plain)
                if [[ $word == *[=/] || $word == *: ]]; then
                    begun+=("$word${text:+:$text}")
                else
                    whole+=("$word${text:+:$text}")
                fi
                ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done
    (( $#whole )) && _describe -V stack whole
    (( $#begun )) && _describe -V stack begun -S ''
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _stack_completion "$@"
else
    compdef _stack_completion stack
fi
"""

    def render(self, item: CompletionItem[str], option: str, word: str) -> str:
        """Kind, value and description; a colon would end the value."""
        value = item.value.replace("\\", "\\\\").replace(":", "\\:")
        return f"{item.type}\t{value}\t{_join(item.help)}"


class FishComplete(LineComplete):
    """Fish puts an answer in the place of the whole word; it quotes by itself."""

    name = "fish"
    source_template = """\
function _stack_completion
    set -l word (commandline -ct)
    set -l option (string match -r -- '^-[^=]*=' $word)
    for line in (_STACK_COMPLETE=fish_complete _STACK_LINE=(commandline -cp) stack 2>/dev/null)
        set -l told (string split -m 1 \\t -- $line)
        switch $told[1]
            case plain
                echo $told[2]
            case dir
                __fish_complete_directories (string replace -- "$option" '' $word) | string replace -r '^' -- "$option"
            case file
                __fish_complete_path (string replace -- "$option" '' $word) | string replace -r '^' -- "$option"
        end
    end
end

complete --no-files --keep-order --command stack --arguments '(_stack_completion)'
"""

    def render(self, item: CompletionItem[str], option: str, word: str) -> str:
        """Kind, the whole word, and a description."""
        return f"{item.type}\t{option}{item.value}\t{_join(item.help)}".rstrip()


SHELLS: Final[dict[str, type[LineComplete]]] = {one.name: one for one in (BashComplete, ZshComplete, FishComplete)}
"""By the name of the shell."""


def read_line(line: str) -> tuple[list[str], str]:
    """The words of a line before the one that it ends in, without variables set in front; and that one, maybe empty."""
    words = split_arg_string(line + _CURSOR)
    *whole, last = words
    while whole and re.match(r"\w+=", whole[0]):
        whole.pop(0)
    return whole, last.removesuffix(_CURSOR)


def _is_quoted(line: str) -> bool:
    """Whether the line ends between quotes."""
    quote = ""
    letters = iter(line)
    for letter in letters:
        if letter == "\\" and quote != "'":
            next(letters, "")
        elif letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
    return bool(quote)


def _read_variable(name: str) -> str:
    return os.environ.get(name, "")


def _join(text: str | None) -> str:
    return " ".join((text or "").split())

"""Splitting a command line into words, as the reference implementation does: quotes and backslashes, but no shell."""

from __future__ import annotations

_BLANK = " \t\r\n"
_OPERATORS = ";&|<>"


def split_words(text: str) -> tuple[list[str], str]:
    """Split `text` into words; a shell operator outside quotes ends the command, and the rest is returned beside them.

    Within double quotes and outside of quotes a backslash takes the next character as it is. Raises ValueError for a
    quote, a backtick or a parenthesis that is not closed.
    """
    if not any(char in text for char in "'\"\\;&|<>`()"):
        return text.split(), ""
    return _Splitter(text).split()


class _Splitter:
    def __init__(self, text: str) -> None:
        self._text = text
        self._words: list[str] = []
        self._word: list[str] = []
        self._quoted = False
        self._quote = ""

    def split(self) -> tuple[list[str], str]:
        text = self._text
        index, size = 0, len(text)
        while index < size:
            char = text[index]
            if char == "\\" and self._quote != "'":
                if index + 1 == size:
                    raise ValueError("the command ends in a backslash")
                self._word.append(text[index + 1])
                index += 2
                continue
            if char in _OPERATORS and not self._quote:
                if char == ">" and self._word and self._word[0].isdigit():
                    self._word.clear()
                self._finish_word()
                return self._words, text[index:]
            self._take(char)
            index += 1
        if self._quote:
            raise ValueError(f"the {'parenthesis' if self._quote == ')' else 'quote'} {self._quote} is not closed")
        self._finish_word()
        return self._words, ""

    def _finish_word(self) -> None:
        if self._word or self._quoted:
            self._words.append("".join(self._word))
        self._word.clear()
        self._quoted = False

    def _take(self, char: str) -> None:
        if char in _BLANK and not self._quote:
            self._finish_word()
            return
        if char in "'\"" and self._quote in ("", char):
            self._quoted = True
            self._quote = "" if self._quote else char
            return
        if char == "`" and self._quote in ("", "`"):
            self._quote = "" if self._quote else "`"
        elif char == "(" and not self._quote:
            if not self._word or self._word[-1] != "$":
                raise ValueError("the command holds an unquoted parenthesis")
            self._quote = ")"
        elif char == ")" and self._quote == ")":
            self._quote = ""
        self._word.append(char)

"""Directives, comments, continuations, heredocs and positions."""

from __future__ import annotations

import pytest

from orchestrator.engines.native.dockerfile.front.lexer import Scan, parse_heredoc, scan_dockerfile


def scan(text: str | bytes) -> Scan:
    return scan_dockerfile(text, "Dockerfile")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("FROM a\nRUN b\n", ["FROM a", "RUN b"]),
        ("FROM a", ["FROM a"]),
        ("", []),
        ("\n  \n\t\n# c\n", []),
        ("  FROM a  \n\tRUN b\t\n", ["FROM a", "RUN b"]),
        ("RUN a \\\n b", ["RUN a  b"]),
        ("RUN a\\\nb", ["RUN ab"]),
        ("RUN a \\  \t\n b", ["RUN a  b"]),
        ("RUN a \\\n# c\n b", ["RUN a  b"]),
        ("RUN a \\\n  # c \\\n b", ["RUN a  b"]),
        ("RUN a \\\n\n\n b", ["RUN a  b"]),
        ("RUN a \\\n\\\n b", ["RUN a  b"]),
        ("RUN a \\\\\nENV b", ["RUN a \\\\", "ENV b"]),
        ("RUN a \\\n", ["RUN a"]),
        ("RUN a # no comment", ["RUN a # no comment"]),
        ("\\\nRUN a", ["RUN a"]),
        ("R\\\nUN a", ["RUN a"]),
        ("RUN a\r\nRUN b \\\r\n c\r\n", ["RUN a", "RUN b  c"]),
        ("\ufeffFROM a", ["FROM a"]),
        ("#!/usr/bin/env x\nFROM a", ["FROM a"]),
        ("# escape=`\nRUN a `\n b\nRUN c \\\nRUN d", ["RUN a  b", "RUN c \\", "RUN d"]),
    ],
)
def test_joins_lines(text: str, lines: list[str]) -> None:
    found = scan(text)
    assert [one.text for one in found.lines] == lines
    assert not found.problems


@pytest.mark.parametrize(
    ("text", "escape", "names"),
    [
        ("# escape=`\nFROM a", "`", ["escape"]),
        ("#escape=\\\n", "\\", ["escape"]),
        ("#  Escape =  ` \n", "`", ["escape"]),
        ("# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=`\n", "`", ["syntax", "check", "escape"]),
        ("# comment\n# escape=`\n", "\\", []),
        ("# unknown=1\n# escape=`\n", "\\", []),
        ("\n# escape=`\n", "\\", []),
        ("FROM a\n# escape=`\n", "\\", []),
        ("#!/bin/x\n# syntax=y\n", "\\", ["syntax"]),
    ],
)
def test_reads_directives_at_the_top(text: str, escape: str, names: list[str]) -> None:
    found = scan(text)
    assert (found.escape, [one.name for one in found.directives]) == (escape, names)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# escape=x\nFROM a", "Dockerfile:1:1: error[invalid-escape]"),
        ("# escape=`\n# escape=`\n", "Dockerfile:2:1: error[duplicate-directive]"),
        ("FROM a\nRUN \0", "Dockerfile:2:5: error[nul-byte]"),
        ("FROM a\n  RUN <<E\nx\n", "Dockerfile:2:7: error[unterminated-heredoc]"),
        ("FROM a\n\\\n\n", "Dockerfile:2:1: error[empty-instruction]"),
    ],
)
def test_tells_what_is_wrong(text: str, problem: str) -> None:
    assert [one.render().split(":  ")[0].startswith(problem) for one in scan(text).problems] == [True]


def test_a_heredoc_without_end_takes_the_rest() -> None:
    assert [one.text for one in scan("RUN <<E\na\nFROM b\n").lines] == ["RUN <<E"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<EOF", ("EOF", True, False)),
        ("<<-EOF", ("EOF", True, True)),
        ('<<"EOF"', ("EOF", False, False)),
        ("<<'E F'", ("E F", False, False)),
        ("<<-'EOF'", ("EOF", False, True)),
        ("3<<EOF", ("EOF", True, False)),
        ("<<E'O'F", ("EOF", False, False)),
        ("<<\\EOF", ("EOF", True, False)),
        ("<<$X", ("$X", True, False)),
    ],
)
def test_reads_heredoc_words(word: str, expected: tuple[str, bool, bool]) -> None:
    found = parse_heredoc(word)
    assert found and (found.name, found.expand, found.chomp) == expected


@pytest.mark.parametrize("word", ["<<", "<<-", "<<<x", "a<<b", "<EOF", "<<a b", "<<'a", "<<a<<b", "x", ""])
def test_other_words_are_no_heredocs(word: str) -> None:
    assert parse_heredoc(word) is None


@pytest.mark.parametrize(
    ("text", "heredocs"),
    [
        ("RUN <<A\n1\n2\nA\n", [("A", "1\n2\n")]),
        ("RUN <<A\nA\n", [("A", "")]),
        ("RUN cat <<A <<B\n1\nA\n2\nB\n", [("A", "1\n"), ("B", "2\n")]),
        ("RUN <<-A\n\t1\n\t\tA\n", [("A", "\t1\n")]),
        ("RUN <<A\n A\nA \nA\n", [("A", " A\nA \n")]),
        ("RUN <<A\r\n1\r\nA\r\n", [("A", "1\r\n")]),
        ("RUN <<A\n# no comment\n\\\nA\n", [("A", "# no comment\n\\\n")]),
        ("COPY <<A <<B /x\n1\nA\n2\nB\n", [("A", "1\n"), ("B", "2\n")]),
        ("ADD <<A /x\n1\nA\n", [("A", "1\n")]),
        ("onbuild run <<A\n1\nA\n", [("A", "1\n")]),
        ("RUN --mount=target=/x <<A\n1\nA\n", [("A", "1\n")]),
        ("RUN a \\\n <<A\n1\nA\n", [("A", "1\n")]),
        ("RUN echo '<<A'\n", []),
        ("RUN echo \\<<A\n", []),
        ('RUN ["<<A"]\n', []),
        ('COPY ["<<A", "b"]\n', []),
        ("ENV a=<<A\n", []),
        ("CMD <<A\n", []),
        ("RUN a <<<A\n", []),
        ("RUN $((1<<A))\n", []),
        ("RUN 'unclosed <<A\n", []),
    ],
)
def test_takes_heredocs_off(text: str, heredocs: list[tuple[str, str]]) -> None:
    found = scan(text + "ENV z\n")
    assert [(one.name, one.content) for one in found.lines[0].heredocs] == heredocs
    assert found.lines[-1].text == "ENV z"
    assert not found.problems


def test_knows_where_everything_stands() -> None:
    text = "# c\n\nFROM a\n  RUN one \\\n    # c\n\n\ttwo \\\n three\n"
    line = scan(text).lines[1]
    assert line.text == "RUN one \ttwo  three"
    places = {word: line.locate(line.text.index(word))[1:] for word in ("RUN", "one", "two", "three")}
    assert places == {"RUN": (4, 3), "one": (4, 7), "two": (7, 2), "three": (8, 2)}
    assert (line.start, line.end, line.empty) == (4, 8, (6,))


def test_refuses_what_is_not_text() -> None:
    found = scan(b"# caf\xe9\nFROM a\nRUN one \\\n # \xe9\n t\xe9o\nCOPY <<E /x\none\nab\xff\nE\n")
    assert [(one.code, one.location[1:]) for one in found.problems if one.location] == [
        ("not-utf-8", (5, 3)),
        ("not-utf-8", (8, 3)),
    ]
    assert "0xe9" in found.problems[0].message
    # What is told of the line can be written.
    assert found.lines[1].text == "RUN one  t\ufffdo"
    assert not scan("# caf\xe9\nLABEL a=\xe9\n".encode()).problems
    assert "U+D800" in scan("LABEL a=\ud800").problems[0].message

"""Variables, quotes and escapes."""

from __future__ import annotations

import pytest

from orchestrator.engines.native.dockerfile.front.expansion import Style, expand_text
from orchestrator.engines.native.dockerfile.front.patterns import replace_pattern, trim_prefix, trim_suffix
from orchestrator.engines.native.dockerfile.front.problems import Problem

VALUES = {
    "A": "abc",
    "E": "",
    "P": "/usr/local/bin",
    "N": "foobarbaz",
    "S": "two  words",
    "B": "bar",
    "_x1": "u",
    "É": "é",
}

PLAIN = {
    "": "",
    "x": "x",
    "$A": "abc",
    "${A}": "abc",
    "$A$A": "abcabc",
    "${A}x": "abcx",
    "$Ax": "",
    "$A.b": "abc.b",
    "$_x1": "u",
    "${É}": "é",
    "é$A": "éabc",
    "$Z": "",
    "a$": "a$",
    "$": "$",
    "$.": "$.",
    "$$A": "A",
    "$1x": "x",
    "$12": "",
    "$?x": "x",
    "${1}": "",
    r"\$A": "$A",
    r"\${A}": "${A}",
    r"\\$A": r"\abc",
    r"a\ b": "a b",
    r"a\b": "ab",
    "a\\": "a",
    "'$A'": "$A",
    '"$A"': "abc",
    r'"\$A"': "$A",
    r'"a\b"': r"a\b",
    r'"\\"': "\\",
    r'"\""': '"',
    "'\"'": '"',
    '"\'"': "'",
    "a'b'\"c\"d": "abcd",
    "'a b'": "a b",
    "${A:-x}": "abc",
    "${Z:-x}": "x",
    "${E:-x}": "x",
    "${E-x}": "",
    "${Z-x}": "x",
    "${A:+x}": "x",
    "${E:+x}": "",
    "${E+x}": "x",
    "${Z+x}": "",
    "${A:?no}": "abc",
    "${E?no}": "",
    "${Z:-}": "",
    "${Z:-a b}": "a b",
    "${Z:-$A}": "abc",
    "${Z:-${Y:-${A}}}": "abc",
    "${Z:-'$A'}": "$A",
    '${Z:-"$A"}': "abc",
    r"${Z:-a\}b}": "a}b",
    "${Z:-{}": "{",
    "${A:+$B-$E}": "bar-",
    '"${Z:-a b}"': "a b",
    "${N#f*b}": "arbaz",
    "${N##f*b}": "az",
    "${N%b*}": "foobar",
    "${N%%b*}": "foo",
    "${N#x}": "foobarbaz",
    "${N#foo}": "barbaz",
    "${N%az}": "foobarb",
    "${N#???}": "barbaz",
    "${N%???}": "foobar",
    "${N##*}": "",
    "${N#*}": "foobarbaz",
    "${P##*/}": "bin",
    "${P%/*}": "/usr/local",
    "${N#$B}": "foobarbaz",
    "${N%%${B}*}": "foo",
    "${Z#a}": "",
    "${N/ba/fo}": "fooforbaz",
    "${N//ba/fo}": "fooforfoz",
    "${N/b?r/X}": "fooXbaz",
    "${N//b*/X}": "fooX",
    "${N/o/}": "fobarbaz",
    "${N//o/}": "fbarbaz",
    "${N/$B/-}": "foo-baz",
    "${N/ba/$A}": "fooabcrbaz",
    r"${P//\//.}": ".usr.local.bin",
    "${N/x/y}": "foobarbaz",
    "${Z/x/y}": "",
    "${N//?/-}": "---------",
    "${A//*/x}": "x",
}


@pytest.mark.parametrize("text", PLAIN)
def test_expands(text: str) -> None:
    assert expand_text(text, VALUES).text == PLAIN[text]


WORDS = {
    "a  b": ["a", "b"],
    " a ": ["a"],
    "'a b' c": ["a b", "c"],
    r"a\ b": ["a b"],
    "$S": ["two", "words"],
    '"$S"': ["two  words"],
    "x${S}y": ["xtwo", "wordsy"],
    "''": [],
    "a'' b": ["a", "b"],
    "$E": [],
    "${Z:-a b}": ["a", "b"],
    "a\tb\nc": ["a", "b", "c"],
    "a\u00a0b": ["a", "b"],
    "a\u2003b": ["a", "b"],
    "a\x1cb": ["a\x1cb"],
}


@pytest.mark.parametrize("text", WORDS)
def test_splits_words_after_expanding(text: str) -> None:
    assert list(expand_text(text, VALUES).words) == WORDS[text]


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("ab'c", 2, "single quote"),
        ('a"b', 1, "double quote"),
        ("x${A", 1, "missing"),
        ("${", 0, "missing"),
        ("${}", 0, "bad substitution"),
        ("${{A}}", 0, "bad substitution"),
        ("${:-x}", 0, "bad substitution"),
        ("${A:-x", 0, "missing"),
        ("${A:x}", 0, "unsupported modifier :x"),
        ("${A:#x}", 0, "unsupported modifier :#"),
        ("${A=x}", 0, "unsupported modifier ="),
        ("${A b}", 0, "unsupported modifier"),
        ("${Z:?}", 0, "Z: is not allowed to be unset"),
        ("${E:?}", 0, "E: is not allowed to be empty"),
        ("${Z:?give it}", 0, "Z: give it"),
        ("${Z?$A}", 0, "Z: abc"),
        ("${A/x}", 0, "missing"),
        ("${A/x/y", 0, "missing"),
        (r"${A#\x}", 0, "invalid escape"),
        ("${Z:-'}", 5, "single quote"),
        ("${Z:-" * 200, 500, "nested too deeply"),
    ],
)
def test_refuses(text: str, offset: int, message: str) -> None:
    with pytest.raises(Problem, match=message.replace("$", r"\$")) as caught:
        expand_text(text, VALUES)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "result"), [("`$A", "$A"), ("a` b", "a b"), (r"\$A", r"\abc"), ('"`""', '"'), ("``", "`")]
)
def test_takes_the_backtick_for_an_escape(text: str, result: str) -> None:
    assert expand_text(text, VALUES, Style(escape="`")).text == result


def test_heredocs_have_no_quotes() -> None:
    text = "'$A' \"$A\" \\$A \\\\ it's\n"
    assert expand_text(text, VALUES, Style(plain_quotes=True)).text == "'abc' \"abc\" $A \\ it's\n"


def test_tells_which_variables_were_looked_up() -> None:
    found = expand_text("$A ${Z:-$B} '$N'", VALUES)
    assert (set(found.found), set(found.missing)) == ({"A", "B"}, {"Z"})


def test_leaves_unset_variables_if_asked() -> None:
    text = "$Z ${Z} ${Z:-x} ${Z#p} ${Z/a/b} ${Z//a/b} $A"
    assert expand_text(text, VALUES, Style(keep_unset=True)).text == text.replace("$A", "abc")


def test_patterns_take_no_exponential_time() -> None:
    value, pattern = "a" * 5000, "*a" * 200 + "b"
    assert trim_prefix(value, pattern, longest=True) == value
    assert trim_suffix(value, pattern, longest=False) == value
    assert replace_pattern(value, pattern, "x", every=True) == value


@pytest.mark.parametrize(
    ("value", "pattern", "replacement", "every", "result"),
    [
        ("abc", "", "-", False, "-abc"),
        ("abc", "", "-", True, "-a-b-c-"),
        ("aXbXc", "X*", "-", False, "a-"),
        ("aaa", "a", "", True, ""),
        ("aaa", "aa", "b", True, "ba"),
        ("abcabc", "b*b", "-", True, "a-c"),
        ("a\nb", "a*b", "-", True, "-"),
        ("a*b", r"\*", "-", True, "a-b"),
    ],
)
def test_replaces(value: str, pattern: str, replacement: str, every: bool, result: str) -> None:
    assert replace_pattern(value, pattern, replacement, every=every) == result

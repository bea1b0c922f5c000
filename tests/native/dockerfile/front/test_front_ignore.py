"""``.dockerignore``"""

from __future__ import annotations

import pytest

from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid
from orchestrator.engines.native.dockerfile.sources.dockerignore import load_ignore


@pytest.mark.parametrize(
    ("text", "path", "hidden"),
    [
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "b/a", False),
        ("/a", "a", True),
        ("./a/", "a/x", True),
        ("a/b", "a", False),
        ("a/b", "a/b", True),
        ("*", "a", True),
        ("*", "a/b", True),
        ("*.md", "x.md", True),
        ("*.md", "d/x.md", False),
        ("*/*.md", "d/x.md", True),
        ("**/*.md", "x.md", True),
        ("**/*.md", "a/b/x.md", True),
        ("**", "a/b", True),
        ("a/**", "a", False),
        ("a/**", "a/b/c", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "ab", False),
        ("**foo", "xfoo", True),
        ("**foo", "a/xfoo", True),
        ("**/foo", "xfoo", False),
        ("?", "a", True),
        ("?", "ab", False),
        ("a?", "a/", False),
        ("[a-c]x", "bx", True),
        ("[^a]x", "bx", True),
        ("[^a]x", "ax", False),
        ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        ("a.b", "axb", False),
        ("*\n!a", "a", False),
        ("*\n!a", "b", True),
        ("*\n!a/b", "a/b/c", False),
        ("*\n!a/b", "a/c", True),
        ("!a\n*", "a", True),
        ("*.md\n!R*.md\nRX.md", "RX.md", True),
        ("*.md\n!R*.md\nRX.md", "RY.md", False),
        ("# a\na", "a", True),
        (" # a", "# a", True),
        ("\n  a  \n", "a", True),
        ("a\r\nb\r\n", "a", True),
        ("\ufeffa", "a", True),
        ("a//b/../c", "a/c", True),
        ("../a", "a", False),
        (".", "a", False),
        ("/", "a", False),
        ("! a\n", "a", False),
        ("*\n!  /a/", "a/x", False),
        ("a b", "a b", True),
        ("é*", "été", True),
        ("", "a", False),
    ],
)
def test_hides(text: str, path: str, hidden: bool) -> None:
    assert load_ignore(text).matches(path) is hidden


@pytest.mark.parametrize(
    ("text", "directory", "pruned"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a\n!a/b", "a", False),
        ("a\n!a/b", "a/c", True),
        ("a\n!b", "a", True),
        ("*\n!**/x", "a", False),
        ("*\n!a*/b", "ab", False),
        ("*\n!a*/b", "c", True),
    ],
)
def test_walks_need_not_enter(text: str, directory: str, pruned: bool) -> None:
    assert load_ignore(text).prunes(directory) is pruned


def test_tells_every_line_that_is_no_pattern() -> None:
    with pytest.raises(DockerfileInvalid) as caught:
        load_ignore("a\n  [b\n!\nc[\n", "x.dockerignore")
    assert [str(one.location) for one in caught.value.diagnostics] == [
        "x.dockerignore:2:3",
        "x.dockerignore:3:1",
        "x.dockerignore:4:1",
    ]

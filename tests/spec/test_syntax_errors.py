"""A text that is no YAML: the place where it can be mended, and how."""

from __future__ import annotations

import pytest

from orchestrator.errors import StackError


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("services:\n\tweb: {image: a}\n", 2, 1, "a tab stands where the line is indented", "indent with spaces"),
        ("services:\n  web:\n    command: @x y\n", 3, 14, "a value cannot begin with @", 'quote it: "@x y"'),
        ("services:\n  web:\n    image: `a`\n", 3, 12, "a value cannot begin with `", 'quote it: "`a`"'),
        ('services:\n  web:\n    image: %"\n', 3, 12, "a value cannot begin with %", "put it between quotes"),
        ("services:\n  web: a: b\n", 2, 9, "mapping values are not allowed", "quote values that contain ': '"),
        ("services:\n  web\n  db: {image: a}\n", 2, 3, "'web' is followed by no colon", "end the name of a mapping"),
        ("services:\n  web:\n    image: a\n   ports: []\n", 4, 4, "indented by 3 spaces", "indent it by 0, 2 or 4"),
        ("services:\n  web:\n    image: [a\n  db: {}\n", 3, 12, "the [ that begins here is not closed", "write ]"),
        ("services: {web: {image: a\n", 1, 17, "the { that begins here is not closed", "write }"),
        ("services:\n  web:\n    command: ['a' 'b']\n", 3, 19, "neither a comma nor ]", "a comma between two values"),
        ("services:\n  web:\n    image: 'a\n", 3, 12, "the quote ' that begins here is not closed", "write '"),
        ('services:\n  web:\n    image: "\\q"\n', 3, 13, "unknown escape", "write the backslash twice"),
        ("services:\n  web:\n    - a\n    image: b\n", 4, 5, "a line without '-'", "begin it with '- '"),
        ("services: ]\n", 1, 11, "did not find expected node content", "not closed or not indented"),
        ("services:\n  web:\n    command: a\x1bb\n", 3, 15, "U+001B cannot stand", "between double quotes"),
    ],
)
def test_where_and_how_it_is_mended(load, text, line, column, message, hint):
    with pytest.raises(StackError) as raised:
        load(text)
    (problem,) = raised.value.diagnostics
    assert problem.code == "yaml-syntax"
    assert problem.location is not None
    assert problem.location[1:] == (line, column), problem.message
    assert message in problem.message
    assert hint in problem.hint

"""Interpolation, ``.env`` and env files."""

from __future__ import annotations

import pytest

from orchestrator.spec.dotenv import parse_dotenv
from orchestrator.spec.interpolate import TemplateError, extract_variables, substitute_variables
from orchestrator.spec.positions import Problems

VALUES = {"SET": "value", "EMPTY": "", "NAME": "SET"}


def render(template: str) -> tuple[str, list[str]]:
    unset: list[str] = []
    return substitute_variables(template, VALUES.get, unset.append), unset


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$SET ${SET}", "value value"),
        ("$$SET $${SET}", "$SET ${SET}"),
        ("${UNSET:-a b}", "a b"),
        ("${EMPTY:-d}${EMPTY-d}", "d"),
        ("${UNSET-d}", "d"),
        ("${SET:+r}${EMPTY:+r}${UNSET:+r}", "r"),
        ("${SET+r}${EMPTY+r}${UNSET+r}", "rr"),
        ("${SET:?no}${EMPTY?no}", "value"),
        ("${UNSET:-${EMPTY:-${SET}}}", "value"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("${UNSET:-{}}", "{}"),
        ("a${SET}b$SET-c", "avalueb" + "value-c"),
        ("${UNSET:-$$x}", "$x"),
        ("$ a$ $(date) $1 ^x$ $-", "$ a$ $(date) $1 ^x$ $-"),
        ("${UNSET:-$(x)}${UNSET:-$}", "$(x)$"),
    ],
)
def test_every_form_is_substituted(template, expected):
    assert render(template) == (expected, [])


def test_an_unset_variable_is_empty_and_named():
    assert render("<$GONE${LOST}>") == ("<>", ["GONE", "LOST"])


@pytest.mark.parametrize("template", ["${}", "${SET", "${1A}", "${SET!x}", "${SET:x}", "${UNSET:-${1}}"])
def test_what_is_no_reference_is_refused(template):
    with pytest.raises(TemplateError) as caught:
        render(template)
    assert caught.value.code == "bad-interpolation"


@pytest.mark.parametrize("template", ["${UNSET?why}", "${UNSET:?why}", "${EMPTY:?why}"])
def test_a_required_variable_says_why(template):
    with pytest.raises(TemplateError, match="why") as caught:
        render(template)
    assert caught.value.code == "required-variable"


def test_variables_are_listed_with_defaults_and_nesting():
    found = extract_variables("$A ${B:-x${C}} ${D:?no} ${E+alt} $$F")
    assert [one.name for one in found] == ["A", "B", "C", "D", "E"]
    assert found[1].default == "x${C}"
    assert found[3].required
    assert found[4].alternate == "alt"


DOTENV = """\
# a comment
PLAIN=value # comment
HASH=a#b
export EXPORTED=yes
YAML: style
SPACED  =  around
SINGLE='raw $PLAIN \\n'
DOUBLE="line\\nnext \\"q\\" $PLAIN"
MULTI="one
two"
REF=${PLAIN}-${OUTER:-none}
EMPTY=
ESCAPED="\\$PLAIN $$"
INHERITED
NOWHERE
"""


def test_the_dotenv_dialect():
    problems = Problems()
    file = problems.register_file(".env")
    found = parse_dotenv(DOTENV, file, problems, {"INHERITED": "outer"}.get)
    values = {name: value for name, (value, _) in found.items()}
    assert not problems.found
    assert values == {
        "PLAIN": "value",
        "HASH": "a#b",
        "EXPORTED": "yes",
        "YAML": "style",
        "SPACED": "around",
        "SINGLE": "raw $PLAIN \\n",
        "DOUBLE": 'line\nnext "q" value',
        "MULTI": "one\ntwo",
        "REF": "value-none",
        "EMPTY": "",
        "ESCAPED": "$PLAIN $",
        "INHERITED": "outer",
    }
    assert str(problems.locate(found["REF"][1])) == ".env:11:1"


def test_bad_lines_of_an_env_file_are_all_reported(refuse):
    assert refuse(
        "services: {web: {image: i, env_file: x.env}}", more={"/app/x.env": 'OK=1\nbad key=2\n=3\nOPEN="x\n'}
    ) == ["2:1 bad-env-file ", "3:1 bad-env-file ", "4:1 bad-env-file "]


def test_env_files_stand_below_the_environment(service):
    web = service(
        """
        env_file: [a.env, {path: b.env, format: raw}, {path: gone.env, required: false}]
        environment: {B: mine, FROM_SHELL: , LEFT: }
        """,
        more={"/app/a.env": "A=1\nB=2\nC=$A$B\n", "/app/b.env": 'RAW="$A"\n'},
        environ={"FROM_SHELL": "shell"},
    )
    assert web["environment"] == {
        "A": "1", "B": "mine", "C": "1mine", "RAW": '"$A"', "FROM_SHELL": "shell", "LEFT": None,
    }  # fmt: skip
    assert "env_file" not in web


def test_the_environment_wins_over_dotenv_and_unset_variables_warn_once(load):
    loaded = load(
        "services: {web: {image: '$A-$B-$GONE', hostname: '$GONE'}}",
        more={"/app/.env": "A=file\nB=file\n"},
        environ={"A": "shell"},
    )
    assert loaded.stack.services["web"].image == "shell-file-"
    assert [(one.code, str(one.location)) for one in loaded.warnings] == [("unset-variable", "compose.yaml:1:25")]


def test_keys_are_not_interpolated(service):
    assert service("labels: {$A: $$b}")["labels"] == {"$A": "$b"}


def test_casts_apply_to_what_variables_say(service):
    web = service("privileged: ${P}\nscale: '${N}'\nmem_limit: ${M}", environ={"P": "yes", "N": "2", "M": "1g"})
    assert (web["privileged"], web["scale"], web["mem_limit"]) == (True, 2, str(1 << 30))

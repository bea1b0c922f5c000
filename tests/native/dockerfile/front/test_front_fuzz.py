"""No text ends in a traceback or takes for ever."""

from __future__ import annotations

from fronts import evaluate_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.engines.native.dockerfile.front.expansion import Style, expand_text
from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid, Problem
from orchestrator.engines.native.dockerfile.sources.dockerignore import load_ignore

PIECES = [
    *("FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "CMD", "ENTRYPOINT", "EXPOSE", "VOLUME", "USER", "WORKDIR"),
    *(
        "SHELL",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ONBUILD",
        "MAINTAINER",
        "from",
        "scratch",
        "AS",
        "NONE",
        "a",
        "b=1",
        "=",
        "/x",
    ),
    *(
        " ",
        " ",
        " ",
        "\n",
        "\n",
        "\n",
        "\\\n",
        "\t",
        "\r\n",
        "#",
        "# escape=`\n",
        "# check=skip=all\n",
        "'",
        '"',
        "\\",
        "`",
    ),
    *(
        "$",
        "${",
        "}",
        "$a",
        "${a}",
        "${a:-",
        "${a#*",
        "${a%%",
        "${a/",
        "${a//",
        "/",
        ":?",
        "*",
        "?",
        "[",
        "]",
        "[^",
        '["a"]',
    ),
    *(
        "<<E\n",
        "\nE\n",
        "<<-",
        "<<'E'",
        "--",
        "--from=",
        "--from=0",
        "--mount=",
        "type=cache,target=/x",
        "type=",
        ",",
        "--link",
    ),
    *(
        "--chmod=7",
        "--interval=1s",
        "--platform=",
        "1-2",
        "80/udp",
        "1m",
        "\0",
        "\ufeff",
        "\x85",
        "é",
        "😀",
        "\ud800",
        "true",
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=80)
QUICK = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(TEXTS, st.dictionaries(st.sampled_from(["a", "b", "HTTP_PROXY", "TARGETARCH"]), st.text(max_size=5), max_size=3))
def test_dockerfiles(text: str, args: dict[str, str]) -> None:
    for whole in (text, f"FROM scratch AS a\n{text}\nFROM a\nARG a\n{text}"):
        try:
            for stage in evaluate_all(whole, args=args).values():
                assert all(isinstance(step.created_by, str) and step.location.line > 0 for step in stage.steps)
                "".join(step.created_by + step.text for step in stage.steps).encode()
        except DockerfileInvalid as error:
            assert error.diagnostics and error.render()


@QUICK
@given(st.binary(max_size=100))
def test_bytes(data: bytes) -> None:
    for whole in (data, b"FROM scratch\nRUN <<E\n" + data, b"FROM scratch\nENV a=" + data):
        try:
            evaluate_all(whole)
        except DockerfileInvalid as error:
            assert error.render()


@QUICK
@given(TEXTS, st.sampled_from(["\\", "`"]), st.booleans(), st.booleans())
def test_expansions(text: str, escape: str, keep: bool, plain: bool) -> None:
    style = Style(escape=escape, keep_quotes=keep, keep_escapes=keep, plain_quotes=plain, keep_unset=keep)
    try:
        found = expand_text(text, {"a": "1 2", "b": ""}, style)
    except Problem as problem:
        assert problem.offset is not None and 0 <= problem.offset <= len(text)
    else:
        assert all(found.words)


@QUICK
@given(
    st.lists(
        st.sampled_from(["*", "**", "?", "[", "]", "a", "b", "/", "!", "\\", "\n", "-", "^", ".", "..", "#"]),
        max_size=20,
    )
)
def test_ignore_files(pieces: list[str]) -> None:
    try:
        rules = load_ignore("".join(pieces))
    except DockerfileInvalid:
        return
    for path in ("a", "a/b", "b/a/b"):
        if rules.prunes(path):
            assert rules.matches(path + "/a")

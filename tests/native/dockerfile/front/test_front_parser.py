"""What every instruction is understood as, and every mistake with its place."""

from __future__ import annotations

import pytest
from fronts import refuse

from orchestrator.engines.native.dockerfile.front.instructions import (
    ArgInstruction,
    Command,
    CommandInstruction,
    CopyInstruction,
    HealthcheckInstruction,
    Instruction,
    OnbuildInstruction,
    PairsInstruction,
    ShellInstruction,
    ValueInstruction,
    WordsInstruction,
)
from orchestrator.engines.native.dockerfile.front.parser import parse_dockerfile


def parse(text: str) -> Instruction:
    return parse_dockerfile(f"FROM a\n{text}\n", "Dockerfile").stages[0].instructions[0]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV a=1", [("a", "1")]),
        ("env A=1 b=2", [("A", "1"), ("b", "2")]),
        ("ENV a=b\\ c d=e", [("a", "b\\ c"), ("d", "e")]),
        ("ENV a=\"b c\" d='e f'", [("a", '"b c"'), ("d", "'e f'")]),
        ('ENV a="b\\"c d"', [("a", '"b\\"c d"')]),
        ("ENV a='b\\' c=d", [("a", "'b\\'"), ("c", "d")]),
        ("ENV a=b=c", [("a", "b=c")]),
        ("ENV a=", [("a", "")]),
        ("ENV a=1 \\\n  b=2 \\\n# c\n  c=3", [("a", "1"), ("b", "2"), ("c", "3")]),
        ("ENV a b", [("a", "b")]),
        ("ENV a b = c  d", [("a", "b = c  d")]),
        ("ENV\ta\tb", [("a", "b")]),
        ("ENV a   b", [("a", "b")]),
        ("ENV a b=c", [("a", "b=c")]),
        ("LABEL a=1", [("a", "1")]),
        ('LABEL "a b"="c d"', [('"a b"', '"c d"')]),
        ("LABEL a b c", [("a", "b c")]),
        ("LABEL a.b/c-d=1", [("a.b/c-d", "1")]),
        ("ENV a=1\\", [("a", "1")]),
        ("ENV é=ü", [("é", "ü")]),
    ],
)
def test_pairs(text: str, pairs: list[tuple[str, str]]) -> None:
    found = parse(text)
    assert isinstance(found, PairsInstruction)
    assert [(one.name, one.value) for one in found.pairs] == pairs


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ARG a", [("a", None)]),
        ("ARG a=", [("a", "")]),
        ("ARG a=1 b c='x y'", [("a", "1"), ("b", None), ("c", "'x y'")]),
        ("ARG a=b=c", [("a", "b=c")]),
    ],
)
def test_args(text: str, pairs: list[tuple[str, str | None]]) -> None:
    found = parse(text)
    assert isinstance(found, ArgInstruction)
    assert [(one.name, one.value) for one in found.pairs] == pairs


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN a b", Command(("a b",), True)),
        ("RUN a  'b' \"$c\" \\x", Command(("a  'b' \"$c\" \\x",), True)),
        ('RUN ["a", "b c"]', Command(("a", "b c"), False)),
        ('RUN   [ "a" ]  ', Command(("a",), False)),
        ('RUN ["a",\\\n  "b"]', Command(("a", "b"), False)),
        ("RUN ['a']", Command(("['a']",), True)),
        ('RUN ["a" "b"]', Command(('["a" "b"]',), True)),
        ('RUN ["a", "b"', Command(('["a", "b"',), True)),
        ('RUN ["a\\b"]', Command(("a\b",), False)),
        ('RUN ["a\\x"]', Command(('["a\\x"]',), True)),
        ('RUN ["a"] # c', Command(('["a"] # c',), True)),
        ("RUN [NaN]", Command(("[NaN]",), True)),
        ("RUN --network=none a", Command(("a",), True)),
        ("RUN -- a --b", Command(("a --b",), True)),
        ("RUN a --network=x", Command(("a --network=x",), True)),
        ("CMD", Command(("",), True)),
        ("CMD []", Command((), False)),
        ('CMD ["\\u00e9\\n", ""]', Command(("é\n", ""), False)),
        ('CMD ["\\ud800"]', Command(("\ufffd",), False)),
        ("ENTRYPOINT exec a", Command(("exec a",), True)),
        ('entrypoint ["a"]', Command(("a",), False)),
    ],
)
def test_commands(text: str, command: Command) -> None:
    found = parse(text)
    assert isinstance(found, CommandInstruction)
    assert found.command == command


@pytest.mark.parametrize(
    ("text", "sources", "destination"),
    [
        ("COPY a b", ["a"], "b"),
        ("COPY a b c/", ["a", "b"], "c/"),
        ('COPY ["a b", "c d"]', ["a b"], "c d"),
        ('COPY "a b" c', ['"a', 'b"'], "c"),
        ("COPY --from=x --chown=1:2 a b", ["a"], "b"),
        ("COPY --link a b", ["a"], "b"),
        ("ADD --keep-git-dir=true --checksum=x http://a b", ["http://a"], "b"),
        ("COPY - b", ["-"], "b"),
        ("COPY a\\\n b", ["a"], "b"),
        ('ADD [ "a",  "b" ] ', ["a"], "b"),
    ],
)
def test_copies(text: str, sources: list[str], destination: str) -> None:
    found = parse(text)
    assert isinstance(found, CopyInstruction)
    assert ([one.text for one in found.sources], found.destination.text) == (sources, destination)


def test_other_instructions() -> None:
    assert isinstance(shell := parse('SHELL ["a", "-c"]'), ShellInstruction) and shell.shell == ("a", "-c")
    assert isinstance(user := parse("USER  a b "), ValueInstruction) and user.value.text == "a b"
    assert isinstance(ports := parse("EXPOSE 1 $P  3/udp"), WordsInstruction)
    assert [one.text for one in ports.words] == ["1", "$P", "3/udp"]
    assert isinstance(volume := parse('VOLUME ["/a b", " /c "]'), WordsInstruction)
    assert [one.text for one in volume.words] == ["/a b", "/c"]
    assert isinstance(check := parse("HEALTHCHECK --retries=3 --timeout=1m30s cmd a  b"), HealthcheckInstruction)
    assert (check.test, check.retries, check.timeout) == (("CMD-SHELL", "a  b"), 3, 90 * 10**9)
    assert isinstance(trigger := parse("ONBUILD  run <<E\nx\nE"), OnbuildInstruction)
    assert (trigger.expression, trigger.trigger.keyword) == ("run <<E\nx\nE", "RUN")


REFUSED = [
    ("FROM a\nRUNN b", "2:1 unknown-instruction unknown instruction: RUNN | did you mean RUN?"),
    ("FORM a", "1:1 unknown-instruction unknown instruction: FORM | did you mean FROM?"),
    ("FROM a\n  xyzzy b", "2:3 unknown-instruction unknown instruction: xyzzy | see the Dockerfile reference"),
    ("FROM a\nCOPY --form=b c d", "2:6 unknown-flag unknown flag --form of COPY | did you mean --from?"),
    ("FROM a\nENV --x=1 b=c", "2:5 unknown-flag unknown flag --x of ENV | ENV takes no flags"),
    ("FROM a\nRUN \\\n  --mont=type=x b", "3:3 unknown-flag unknown flag --mont of RUN | did you mean --mount?"),
    ("FROM a\nCOPY --link --link a b", "2:13 duplicate-flag COPY: --link is given twice"),
    ("FROM a\nCOPY --chown a b", "2:6 invalid-flag COPY: --chown needs a value"),
    ("FROM a\nCOPY --link=1 a b", "2:6 invalid-flag COPY: --link is true or false, not '1'"),
    ("FROM a\nRUN --network=hots b", "2:5 invalid-flag RUN: invalid --network 'hots' | did you mean host?"),
    ("FROM a\nRUN --device=x b", "2:5 unsupported-flag RUN: --device is not supported"),
    ("RUN a", "1:1 instruction-before-from RUN before the first FROM"),
    ("", "no-stage Dockerfile is empty"),
    ("# c\n", "no-stage Dockerfile is empty"),
    ("ARG a", "no-stage Dockerfile has no FROM instruction"),
    ("FROM", "1:1 missing-argument FROM needs an image"),
    ("FROM a b", "1:8 invalid-from FROM takes an image, or an image, AS and a name | did you mean FROM a AS b?"),
    ("FROM a as", "1:8 invalid-from FROM takes an image, or an image, AS and a name | write FROM image AS name"),
    ("FROM a # x", "1:8 invalid-from FROM takes an image, or an image, AS and a name | a comment needs a line"),
    ("FROM a AS 1x", "1:11 invalid-stage-name FROM: invalid stage name '1x'"),
    ("FROM a\nENV", "2:1 missing-argument ENV needs a name and a value"),
    ("FROM a\nENV x", "2:5 missing-argument ENV x has no value | write ENV x=value"),
    ("FROM a\nENV x=1 y", "2:9 missing-equals ENV expects name=value, found 'y'"),
    ("FROM a\nENV x=1 # y", "2:9 missing-equals ENV expects name=value, found '#' | a comment needs a line"),
    ("FROM a\nLABEL =x", "2:7 blank-name LABEL needs a name before the equals sign"),
    ("FROM a\nARG", "2:1 missing-argument ARG needs a name"),
    ("FROM a\nARG =x", "2:5 blank-name ARG needs a name before the equals sign"),
    ("FROM a\nRUN", "2:1 missing-argument RUN needs a command"),
    ("FROM a\nRUN []", "2:5 missing-argument RUN needs a command"),
    ('FROM a\nCMD ["a", 1]', "2:5 invalid-json-list CMD: element 2 of the JSON list is not a string"),
    ("FROM a\nSHELL sh", "2:7 invalid-shell SHELL needs a JSON list of strings"),
    ("FROM a\nSHELL []", "2:7 invalid-shell SHELL needs at least one element"),
    ("FROM a\nCOPY a", "2:6 missing-destination COPY has no destination: there is only one argument"),
    ("FROM a\nCOPY", "2:1 missing-argument COPY needs a source and a destination"),
    ("FROM a\nCOPY a <<E\nE", "2:8 invalid-heredoc COPY cannot have a heredoc as its destination"),
    ("FROM a\nWORKDIR", "2:1 missing-argument WORKDIR needs a path"),
    ("FROM a\nUSER x y", "2:6 invalid-user USER takes one word, not 'x y'"),
    ("FROM a\nVOLUME", "2:1 missing-argument VOLUME needs a path"),
    ('FROM a\nVOLUME ["/a", " "]', "2:15 empty-path VOLUME cannot have an empty path"),
    ("FROM a\nVOLUME []", "2:8 missing-argument VOLUME needs a path"),
    ("FROM a\nEXPOSE", "2:1 missing-argument EXPOSE needs a port"),
    ("FROM a\nEXPOSE 80 90000", "2:11 invalid-port EXPOSE: invalid port '90000'"),
    ("FROM a\nEXPOSE 9-8", "2:8 invalid-port EXPOSE: the range 9-8 ends before it begins | did you mean 8-9?"),
    ("FROM a\nEXPOSE x:80", "2:8 invalid-port EXPOSE: invalid port 'x:80'"),
    ("FROM a\nEXPOSE 1.2.3:1:80", "2:8 invalid-port EXPOSE: '1.2.3' in '1.2.3:1:80' is no address"),
    ("FROM a\nEXPOSE 80-82:90-91", "2:8 invalid-port EXPOSE: the two ranges"),
    ("FROM a\nCOPY --chmod=0o7 b c", "2:14 invalid-mode COPY: '0o7' is not a file mode"),
    ("FROM a\nEXPOSE 80/tpc", "2:8 invalid-port EXPOSE: unknown protocol 'tpc' in '80/tpc' | did you mean tcp?"),
    ("FROM a\nSTOPSIGNAL SIGTREM", "2:12 invalid-signal STOPSIGNAL: 'SIGTREM' is not a signal | did you mean TERM?"),
    ("FROM a\nHEALTHCHECK", "2:1 missing-argument HEALTHCHECK needs CMD and a command, or NONE"),
    ("FROM a\nHEALTHCHECK x", "2:13 invalid-healthcheck HEALTHCHECK begins with CMD or NONE, not x"),
    ("FROM a\nHEALTHCHECK CMD", "2:13 missing-argument HEALTHCHECK CMD needs a command"),
    ("FROM a\nHEALTHCHECK NONE x", "2:13 invalid-healthcheck HEALTHCHECK NONE takes no flags and no arguments"),
    ("FROM a\nHEALTHCHECK --interval=5 CMD x", "2:13 invalid-duration HEALTHCHECK: --interval: '5' is not a duration"),
    ("FROM a\nHEALTHCHECK --interval=1us CMD x", "2:13 invalid-duration HEALTHCHECK: --interval: 1us is less"),
    ("FROM a\nHEALTHCHECK --retries=x CMD x", "2:13 invalid-number HEALTHCHECK: --retries: 'x' is not a number"),
    ("FROM a\nONBUILD", "2:1 missing-argument ONBUILD needs an instruction"),
    ("FROM a\nONBUILD FROM b", "2:9 invalid-trigger ONBUILD cannot trigger FROM"),
    ("FROM a\nONBUILD onbuild RUN b", "2:9 invalid-trigger ONBUILD cannot trigger ONBUILD"),
    ("FROM a\nONBUILD COPY b", "2:14 missing-destination ONBUILD: COPY has no destination"),
    ("FROM a\nONBUILD \\\n  RUNN b", "3:3 unknown-instruction ONBUILD: unknown instruction: RUNN"),
    ("FROM a\nRUN <<E\nx", "2:5 unterminated-heredoc the heredoc E is not terminated | put a line with nothing but E"),
    ("FROM a\nLABEL x='a", "2:9 unclosed-quote LABEL: a single quote is not closed"),
    ("FROM a\nLABEL x=a y=${b", "2:13 bad-substitution LABEL: bad substitution: the closing } is missing"),
    ("FROM a\nENV x=1 \\\n  y=${z:?give}", "3:5 variable-required ENV: z: give"),
    ("FROM a\nCOPY --chmod=u+q b c", "2:14 invalid-mode COPY: 'u+q' is not a file mode"),
    ("FROM a\nCOPY http://x/y z", "2:6 remote-source COPY cannot fetch http://x/y | use ADD"),
    ("FROM a\nADD --checksum=sha256:0 http://x/y z", "2:16 invalid-checksum ADD: 'sha256:0' is not a digest"),
    ("FROM a\nADD --checksum=sha256:0 x z", "2:16 invalid-checksum ADD: --checksum needs a URL or a git reference"),
    ("FROM a\nCOPY <<E b\n1\n2 ${x:?no}\nE", "4:3 variable-required COPY: x: no"),
    ("FROM a\nWORKDIR $X", "2:9 empty-path WORKDIR $X comes to an empty path"),
    ("FROM a\nENV $X=1", "2:5 blank-name ENV $X comes to an empty name"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_says_what_is_wrong_and_where(text: str, message: str) -> None:
    found = refuse(text)
    assert len(found) == 1
    assert found[0].startswith(message), found[0]


def test_tells_every_fault_of_a_file() -> None:
    text = "FORM a\nFROM b\nRUNN c\nCOPY d\nENV e\nCOPY --x f g\nRUN <<E\n"
    assert [one.split()[0] for one in refuse(text)] == ["1:1", "3:1", "4:6", "5:5", "6:6", "7:5"]
    assert [one.split()[0] for one in refuse("FROM a\nEXPOSE x\nSTOPSIGNAL y\nENV a=${b?}\n")] == ["2:8", "3:12", "4:7"]

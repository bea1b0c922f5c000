"""Steps, image configurations and histories."""

from __future__ import annotations

from typing import Any

import pytest
from fronts import PATH, evaluate, evaluate_all, refuse

from orchestrator.engines.native.dockerfile.front.steps import (
    ConfigStep,
    CopyStep,
    InlineFile,
    Origin,
    RunStep,
    StageSteps,
    WorkdirStep,
)

IMAGE = {
    "Env": ["A=1", "B=2"],
    "WorkingDir": "/base",
    "User": "app",
    "Cmd": ["x"],
    "Labels": {"l": "1"},
    "Hostname": "gone",
    "Volumes": {"/v": {}},
}
NEW = {"Env": [PATH], "WorkingDir": "/"}


def run(text: str, **options: Any) -> RunStep:
    last = evaluate(text, **options).steps[-1]
    assert isinstance(last, RunStep)
    return last


def copy(text: str, **options: Any) -> CopyStep:
    last = evaluate(text, **options).steps[-1]
    assert isinstance(last, CopyStep)
    return last


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ENV a=1 b=$a\nENV c=$a a=2", {"Env": [PATH, "a=2", "b=", "c=1"]}),
        ("ENV PATH=/x:$PATH", {"Env": [f"PATH=/x:{PATH[5:]}"]}),
        ("ENV a b\\ c", {"Env": [PATH, "a=b c"]}),
        ('ENV a "b" c', {"Env": [PATH, "a=b c"]}),
        ("ARG x=1\nENV a=$x", {"Env": [PATH, "a=1"]}),
        ("LABEL a=1\nLABEL a=2 'b c'=\"d e\"", {"Labels": {"a": "2", "b c": "d e"}}),
        ("CMD a b", {"Cmd": ["/bin/sh", "-c", "a b"]}),
        ("CMD", {"Cmd": ["/bin/sh", "-c", ""]}),
        ('CMD ["a"]\nCMD []', {}),
        ('SHELL ["/bin/bash", "-c"]\nCMD a', {"Shell": ["/bin/bash", "-c"], "Cmd": ["/bin/bash", "-c", "a"]}),
        ('CMD ["a"]\nENTRYPOINT ["b"]', {"Cmd": ["a"], "Entrypoint": ["b"]}),
        ('ENTRYPOINT ["b"]\nENTRYPOINT []', {}),
        ("WORKDIR a\nWORKDIR ../b/./c\nWORKDIR d", {"WorkingDir": "/b/c/d"}),
        ("WORKDIR //a//b/", {"WorkingDir": "//a//b/"}),
        ("ENV d=x\nWORKDIR /$d", {"Env": [PATH, "d=x"], "WorkingDir": "/x"}),
        ("USER 1:2", {"User": "1:2"}),
        ("ARG u=app\nUSER ${u}", {"User": "app"}),
        ("USER $nobody", {}),
        ("EXPOSE 80 53/UDP 90-91", {"ExposedPorts": {"53/udp": {}, "80/tcp": {}, "90/tcp": {}, "91/tcp": {}}}),
        ('ENV p="1 2"\nEXPOSE $p/udp', {"Env": [PATH, "p=1 2"], "ExposedPorts": {"1/tcp": {}, "2/udp": {}}}),
        ("EXPOSE 127.0.0.1:8080:80", {"ExposedPorts": {"80/tcp": {}}}),
        ('VOLUME /a /b\nVOLUME ["/c d"]', {"Volumes": {"/a": {}, "/b": {}, "/c d": {}}}),
        ("STOPSIGNAL SIGRTMIN+3", {"StopSignal": "SIGRTMIN+3"}),
        ("STOPSIGNAL 9", {"StopSignal": "9"}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        (
            "HEALTHCHECK --interval=1.5s --timeout=1m --start-period=2h --start-interval=5ms --retries=2 CMD a b",
            {
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "a b"],
                    "Interval": 1_500_000_000,
                    "Timeout": 60 * 10**9,
                    "StartPeriod": 7200 * 10**9,
                    "StartInterval": 5_000_000,
                    "Retries": 2,
                }
            },
        ),
        ('HEALTHCHECK --interval=0s CMD ["a"]', {"Healthcheck": {"Test": ["CMD", "a"]}}),
        ("ONBUILD RUN a  \nonbuild  copy . /b", {"OnBuild": ["RUN a  ", "copy . /b"]}),
    ],
)
def test_configuration(text: str, expected: dict[str, Any]) -> None:
    assert evaluate(f"FROM scratch\n{text}\n").config == {**NEW, **expected}


def test_configuration_of_a_base_image() -> None:
    config = evaluate("FROM base\nENV C=$A B=3\nLABEL m=2\nWORKDIR sub\n", images={"base": IMAGE}).config
    assert config == {
        "Env": ["A=1", "B=3", PATH, "C=1"],
        "WorkingDir": "/base/sub",
        "User": "app",
        "Cmd": ["x"],
        "Labels": {"l": "1", "m": "2"},
        "Volumes": {"/v": {}},
    }
    assert list(config) == ["User", "Env", "Cmd", "Volumes", "WorkingDir", "Labels"]


def test_a_base_image_without_a_working_directory_gets_none() -> None:
    assert evaluate("FROM base\nLABEL a=1", images={"base": {}}).config == {"Env": [PATH], "Labels": {"a": "1"}}


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('FROM base\nENTRYPOINT ["e"]', None),
        ('FROM base\nCMD ["c"]\nENTRYPOINT ["e"]', ["c"]),
        ('FROM base\nENTRYPOINT ["e"]\nCMD ["c"]', ["c"]),
        ('FROM base AS a\nCMD ["c"]\nFROM a\nENTRYPOINT ["e"]', None),
    ],
)
def test_an_entry_point_drops_the_command_of_the_base(text: str, command: list[str] | None) -> None:
    assert evaluate(text, images={"base": IMAGE}).config.get("Cmd") == command


HISTORY = [
    ("ENV a=1 b='x y'", "ENV a=1 b=x y"),
    ("LABEL a=1", "LABEL a=1"),
    ("ARG a b=$c d=1", "ARG a b= d=1"),
    ('CMD ["a", "b\\"c"]', 'CMD ["a" "b\\"c"]'),
    ("ENTRYPOINT x", 'ENTRYPOINT ["/bin/sh" "-c" "x"]'),
    ('CMD ["\\t\\u0007é\\u00a0\\u200b"]', 'CMD ["\\t\\aé\\u00a0\\u200b"]'),
    ("WORKDIR a", "WORKDIR /a"),
    ("USER x", "USER x"),
    ("EXPOSE 80 53/udp", "EXPOSE [53/udp 80/tcp]"),
    ("VOLUME /a /b", "VOLUME [/a /b]"),
    ('SHELL ["a", "-c"]', "SHELL [a -c]"),
    ("STOPSIGNAL TERM", "STOPSIGNAL TERM"),
    ("MAINTAINER A <b@c>", "MAINTAINER A <b@c>"),
    (
        "HEALTHCHECK --timeout=90s --retries=3 CMD a",
        r"""HEALTHCHECK &{["CMD-SHELL" "a"] "0s" "1m30s" "0s" "0s" '\x03'}""",
    ),
    (
        "HEALTHCHECK --retries=10 --interval=1500us CMD a",
        r"""HEALTHCHECK &{["CMD-SHELL" "a"] "1.5ms" "0s" "0s" "0s" '\n'}""",
    ),
    (
        "HEALTHCHECK --retries=65 --interval=36h CMD a",
        """HEALTHCHECK &{["CMD-SHELL" "a"] "36h0m0s" "0s" "0s" "0s" 'A'}""",
    ),
    ("RUN a  b", "RUN /bin/sh -c a  b # buildkit"),
    ('RUN ["a", "b c"]', "RUN a b c # buildkit"),
    ("RUN <<E\na\nE", "RUN /bin/sh -c a\n # buildkit"),
    ("COPY a b", "COPY a b # buildkit"),
    ("COPY --link --parents --chown=1:2 --chmod=755 a /b/", "COPY --parents --chown=1:2 --chmod=755 a /b/ # buildkit"),
    ("COPY <<E a /b/\nE", "COPY a <<E /b/ # buildkit"),
    ("ADD a b ./", "ADD a b ./ # buildkit"),
    ("ONBUILD RUN a", ""),
]


@pytest.mark.parametrize(("text", "created_by"), HISTORY)
def test_history(text: str, created_by: str) -> None:
    assert evaluate(f"FROM scratch\n{text}\n").steps[-1].created_by == created_by


@pytest.mark.parametrize(
    ("text", "makes_layer"),
    [
        ("RUN a", True),
        ("COPY a b", True),
        ("ADD a b", True),
        ("WORKDIR /a", True),
        ("WORKDIR /", False),
        ("ENV a=b", False),
    ],
)
def test_which_steps_make_a_layer(text: str, makes_layer: bool) -> None:
    assert evaluate(f"FROM scratch\n{text}\n").steps[-1].filesystem is makes_layer


def test_run_has_the_whole_environment() -> None:
    step = run(
        "ARG G=global\nFROM base\nARG G X=1 Y\nENV E=$X\nWORKDIR w\nRUN make", images={"base": IMAGE}, args={"Y": "y"}
    )
    assert step.environment == {"A": "1", "B": "2", "PATH": PATH[5:], "G": "global", "X": "1", "Y": "y", "E": "1"}
    assert step.build_args == (("G", "global"), ("X", "1"), ("Y", "y"))
    assert (step.working_dir, step.user, step.argv) == ("/base/w", "app", ("/bin/sh", "-c", "make"))
    assert step.created_by == "RUN |3 G=global X=1 Y=y /bin/sh -c make # buildkit"
    assert (step.network, step.security, step.ignored_args) == ("default", "sandbox", ())


@pytest.mark.parametrize(
    ("text", "args", "value"),
    [
        ("ARG v=1", {}, "1"),
        ("ARG v=1", {"v": "2"}, "2"),
        ("ARG v=1", {"v": ""}, ""),
        ("ARG v", {"v": "2"}, "2"),
        ("ENV v=3\nARG v=1", {}, "1"),
        ("ARG v=1\nENV v=3", {"v": "2"}, "3"),
        ("ENV v=3\nARG v", {}, "3"),
        ("ARG a=1 v=$a", {}, "1"),
        ("ARG v=1\nARG v=2", {}, "2"),
        ("ARG v=1\nARG v", {}, "1"),
        ("ARG v=${x:-d}", {}, "d"),
        ("ARG v=${x:?must}", {"v": "given"}, "given"),
        ('ARG v="1 2"', {}, "1 2"),
    ],
)
def test_scopes_of_variables(text: str, args: dict[str, str], value: str) -> None:
    step = run(f"FROM scratch\n{text}\nRUN x", args=args)
    assert step.environment["v"] == value


def test_global_args_are_seen_where_they_are_declared_again() -> None:
    text = "ARG v=1 w=$v\nFROM scratch\nENV a=$v\nARG v w\nENV b=$v$w\nFROM scratch\nARG v=5\nENV c=$v\n"
    done = evaluate_all(text + "COPY --from=0 / /\n")
    assert [done[0].config["Env"][1:], done[1].config["Env"][1:]] == [["a=", "b=11"], ["c=5"]]
    done = evaluate_all(text + "COPY --from=0 / /\n", args={"v": "9"})
    assert [done[0].config["Env"][1:], done[1].config["Env"][1:]] == [["a=", "b=99"], ["c=9"]]


def test_platform_args() -> None:
    names = "TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDARCH TARGETSTAGE"
    assert run(f"FROM scratch AS one\nARG {names}\nRUN x").build_args == (
        ("TARGETPLATFORM", "linux/amd64"),
        ("TARGETOS", "linux"),
        ("TARGETARCH", "amd64"),
        ("TARGETVARIANT", ""),
        ("BUILDPLATFORM", "linux/arm64"),
        ("BUILDARCH", "arm64"),
        ("TARGETSTAGE", "one"),
    )
    assert run("FROM scratch\nRUN x").build_args == ()


def test_proxies_need_no_declaration_and_do_not_count() -> None:
    step = run("FROM scratch\nRUN x", args={"HTTP_PROXY": "p", "no_proxy": "n", "other": "o"})
    assert {name: step.environment[name] for name in step.ignored_args} == {
        "HTTP_PROXY": "p",
        "http_proxy": "p",
        "NO_PROXY": "n",
        "no_proxy": "n",
    }
    assert "other" not in step.environment and step.created_by == "RUN /bin/sh -c x # buildkit"
    step = run("FROM scratch\nARG HTTP_PROXY\nRUN x", args={"HTTP_PROXY": "p"})
    assert (step.build_args, step.ignored_args) == ((("HTTP_PROXY", "p"),), ("http_proxy",))


def test_a_stage_inherits_variables_directory_and_shell() -> None:
    text = (
        'FROM scratch AS one\nARG v=1\nENV e=2\nWORKDIR /a\nUSER u\nSHELL ["s"]\nFROM one\nARG w=$v$e\nWORKDIR b\nRUN x'
    )
    step = run(text)
    assert (step.working_dir, step.user, step.argv) == ("/a/b", "u", ("s", "x"))
    assert step.created_by == "RUN |2 v=1 w=12 s x # buildkit"


@pytest.mark.parametrize(
    ("text", "argv", "files"),
    [
        ("RUN <<E\na\nb\nE", ("/bin/sh", "-c", "a\nb\n"), ()),
        ("RUN <<-E\n\ta\n\t\tb\n\tE", ("/bin/sh", "-c", "a\nb\n"), ()),
        ("RUN <<E\nE", ("/bin/sh", "-c", ""), ()),
        ("RUN cat <<A <<B\n1\nA\n2\nB", ("/bin/sh", "-c", "cat <<A <<B\n1\nA\n2\nB"), ()),
        ("RUN <<E sh\na\nE", ("/bin/sh", "-c", "<<E sh\na\nE"), ()),
        ("RUN cat <<-E\n\ta\n\tE", ("/bin/sh", "-c", "cat <<-E\n\ta\nE"), ()),
        (
            "RUN <<E\n#!/bin/x\n$a\nE",
            ("/bin/sh", "-c", "/dev/pipes/E"),
            (InlineFile(name="E", content="#!/bin/x\n$a\n"),),
        ),
        ('RUN ["a"]', ("a",), ()),
        ("RUN a \\\n  b", ("/bin/sh", "-c", "a   b"), ()),
        ("RUN $A \\$B `c` \"d\" 'e'", ("/bin/sh", "-c", "$A \\$B `c` \"d\" 'e'"), ()),
    ],
)
def test_what_run_executes(text: str, argv: tuple[str, ...], files: tuple[InlineFile, ...]) -> None:
    step = run(f"FROM scratch\n{text}\n")
    assert (step.argv, step.files) == (argv, files)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COPY a b", {"sources": ("a",), "destination": "/w/b", "directory": False, "unpack": False}),
        ("COPY a b c/", {"sources": ("a", "b"), "destination": "/w/c", "directory": True}),
        ("COPY a .", {"destination": "/w", "directory": True}),
        ("COPY a $nothing", {"destination": "/w", "directory": True}),
        ("COPY a /x/.", {"destination": "/x", "directory": True}),
        ("COPY a ../x", {"destination": "/x", "directory": False}),
        ("COPY $v/${v}* /$v", {"sources": ("1/1*",), "destination": "/1"}),
        ('COPY ["a b", "$v"]', {"sources": ("a b",), "destination": "/w/1"}),
        ("COPY --from=one a b", {"origin": Origin(kind="stage", name="0")}),
        ("COPY --from=ONE a b", {"origin": Origin(kind="stage", name="0")}),
        ("COPY --from=0 a b", {"origin": Origin(kind="stage", name="0")}),
        ("COPY --from=other a b", {"origin": Origin(kind="image", name="other")}),
        ("COPY --from=extra a b", {"origin": Origin(kind="named", name="extra")}),
        ("COPY --chown=$v:x --chmod=u+x,g= a b", {"chown": "1:x", "chmod": "u+x,g="}),
        (
            "COPY --link --parents --exclude=*.a --exclude=$v a b",
            {"link": True, "parents": True, "exclude": ("*.a", "1")},
        ),
        ("COPY --link=false a b", {"link": False}),
        ("ADD a b", {"instruction": "ADD", "unpack": None}),
        ("ADD --unpack a b", {"unpack": True}),
        ("ADD --unpack=false a b", {"unpack": False}),
        ("ADD --keep-git-dir=true --checksum=0a1b git@h:p.git b", {"keep_git_dir": True, "checksum": "0a1b"}),
        (f"ADD --checksum=sha256:{'0' * 64} http://x/y b", {"checksum": "sha256:" + "0" * 64}),
        (
            "COPY <<A <<'B' <<-C b/\n$v \\$v \"'\nA\n$v\nB\n\t$v\nC",
            {
                "sources": (),
                "inline": (
                    InlineFile(name="A", content="1 $v \"'\n"),
                    InlineFile(name="B", content="$v\n"),
                    InlineFile(name="C", content="1\n"),
                ),
            },
        ),
    ],
)
def test_what_copy_copies(text: str, expected: dict[str, Any]) -> None:
    step = copy(f"FROM scratch AS one\nFROM scratch\nARG v=1\nWORKDIR /w\n{text}\n", contexts=["extra"])
    assert {name: getattr(step, name) for name in expected} == expected


def test_workdir_steps() -> None:
    steps = evaluate("FROM scratch\nUSER u\nWORKDIR a/\nWORKDIR /b/../c").steps
    assert [(one.path, one.user) for one in steps if isinstance(one, WorkdirStep)] == [("/a", "u"), ("/c", "u")]


def test_the_author() -> None:
    assert evaluate("FROM scratch AS a\nMAINTAINER one\nFROM a").author == "one"


def test_steps_keep_the_configuration_of_their_moment() -> None:
    steps = evaluate("FROM scratch\nENV a=1\nLABEL b=2\nRUN c").steps
    assert [set(one.config) for one in steps] == [
        {"Env", "WorkingDir"},
        {"Env", "WorkingDir", "Labels"},
        {"Env", "WorkingDir", "Labels"},
    ]


def test_triggers_of_an_image_run_first() -> None:
    image = {"OnBuild": ["ENV a=1", "COPY --from=tools /x /y", "RUN <<E\nmake\nE"]}
    done = evaluate_all("FROM scratch AS tools\nFROM base\nENV b=$a\n", images={"base": image})
    assert set(done) == {0, 1}
    steps = done[1].steps
    assert [one.text for one in steps] == [
        "ONBUILD ENV a=1",
        "ONBUILD COPY --from=tools /x /y",
        "ONBUILD RUN <<E (make)",
        "ENV b=$a",
    ]
    assert [one.location.line for one in steps] == [2, 2, 2, 3]
    assert done[1].config == {"Env": [PATH, "a=1", "b=1"]}


def test_triggers_of_a_stage_run_in_the_next_one_only() -> None:
    text = "FROM scratch AS a\nONBUILD ENV x=1\nFROM a AS b\nONBUILD ENV y=2\nFROM b\nENV z=$x\n"
    done = evaluate_all(text)
    assert [stage.config.get("OnBuild") for stage in done.values()] == [["ENV x=1"], ["ENV y=2"], None]
    assert [stage.config["Env"][1:] for stage in done.values()] == [[], ["x=1"], ["x=1", "y=2", "z=1"]]


def test_a_bad_trigger_is_told_at_from() -> None:
    for trigger, message in (("FROM x", "invalid-trigger"), ("NOPE x", "unknown-instruction"), ("", "invalid-trigger")):
        found = refuse("FROM scratch AS z\nFROM base\n", images={"base": {"OnBuild": [trigger]}})
        assert found[0].startswith(f"2:1 {message}"), found


def test_escape_directive() -> None:
    text = "# escape=`\nFROM scratch\nENV a=b` c `\n  d=`$x e=\\$e f=c:\\dir\nCOPY a c:\\\nRUN x \\\n"
    stage = evaluate(text)
    assert stage.config["Env"][1:] == ["a=b c", "d=$x", "e=\\", "f=c:\\dir"]
    assert isinstance(run_step := stage.steps[-1], RunStep) and run_step.argv[-1] == "x \\"


def test_what_an_evaluation_says_of_itself() -> None:
    stage = evaluate("FROM scratch AS one\nFROM scratch AS Two\nENV a=1\nCOPY --from=one / /\n")
    assert isinstance(stage, StageSteps)
    assert (stage.index, stage.name, stage.shown, stage.platform) == (1, "two", "two", "linux/amd64")
    assert isinstance(stage.steps[0], ConfigStep)
    assert str(stage.steps[1].location) == "Dockerfile:4:1"


def test_steps_are_told_with_the_values_of_their_variables() -> None:
    text = "FROM base\nARG A=1\nENV B=b\nRUN echo \"$A ${B} $C\" '$A' $(date)\nCOPY $B /\nRUN echo it's $A\n"
    told = [one.text for one in evaluate(text).steps if one.filesystem]
    assert told == ["RUN echo \"1 b $C\" '$A' $(date)", "COPY b /", "RUN echo it's $A"]

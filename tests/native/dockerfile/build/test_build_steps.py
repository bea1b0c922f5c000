from __future__ import annotations

import os
import stat

import pytest
from workbench import Bench

from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid
from orchestrator.engines.native.dockerfile.performing.run_step import RunFailed
from orchestrator.engines.native.dockerfile.sources.failures import BuildError, CopyError
from orchestrator.engines.native.images.failures import RegistryUnreachable


def test_a_simple_dockerfile(bench: Bench) -> None:
    bench.write("hello", "hello\n")
    text = 'FROM base\nWORKDIR /app\nCOPY hello .\nENV A=b\nRUN cat hello > copied && echo $A\nCMD ["sh"]\n'
    result = bench.build(text)
    assert bench.read("app/copied") == "hello\n"
    assert "b\n" in bench.output
    assert (result.built_steps, result.cached_steps) == (3, 0)
    assert bench.image().config.cmd == ("sh",)
    assert bench.top() == ["app", "app/copied"]
    again = bench.build(text)
    assert again.image_id == result.image_id
    assert (again.built_steps, again.cached_steps) == (0, 3)
    assert bench.output == ""


def test_a_changed_file_rebuilds_what_comes_after_it(bench: Bench) -> None:
    text = "FROM base\nRUN echo first\nCOPY data /data\nRUN cp /data /copy\n"
    bench.write("data", "1")
    bench.build(text)
    bench.write("data", "2")
    result = bench.build(text)
    assert (result.cached_steps, result.built_steps) == (1, 2)
    assert bench.read("copy") == "2"
    os.utime(bench.context / "data", (1, 1))
    assert bench.build(text).built_steps == 0, "times do not count"
    (bench.context / "data").chmod(0o755)
    assert bench.build(text).built_steps == 2, "modes do"


def test_scratch_and_deletions(bench: Bench) -> None:
    bench.write("one", "1")
    bench.build("FROM scratch\nCOPY one /a/b/one\n")
    assert bench.top() == ["a", "a/b", "a/b/one"]
    bench.build("FROM base\nRUN mkdir -p /d/e && touch /d/e/f\nRUN rm /bin/zcat && rm -r /d/e && mkdir /d/e\n")
    layer = bench.image().layers[0]
    assert stat.S_ISCHR((layer / "bin/zcat").lstat().st_mode)
    assert os.getxattr(layer / "d/e", "trusted.overlay.opaque") == b"y"
    below = bench.image().layers[1]
    assert "trusted.overlay.opaque" not in os.listxattr(below / "d"), "nothing lies below it"
    assert "d/e/f" in bench.top() or not (layer / "d/e/f").exists()


def test_working_directories(bench: Bench) -> None:
    bench.build("FROM base\nUSER web\nWORKDIR /new/one\nRUN pwd\nWORKDIR /\nWORKDIR /etc\n")
    assert "/new/one\n" in bench.output
    files = bench.files()
    assert (files["new"].stat().st_uid, files["new/one"].stat().st_gid) == (101, 102)
    assert bench.top() == [], "a directory that is there makes an empty layer"
    with pytest.raises(BuildError, match="stands in the way"):
        bench.build("FROM base\nWORKDIR /etc/passwd/x\n")


def test_users_groups_and_environment(bench: Bench) -> None:
    bench.build("FROM base\nARG B=arg\nENV C=env\nUSER web\nRUN id -u; id -g; echo $HOME $B $C; touch /tmp/mine\n")
    assert bench.output == "101\n102\n/srv arg env\n"
    assert bench.files()["tmp/mine"].stat().st_uid == 101
    with pytest.raises(BuildError, match="no user 'nobody'") as caught:
        bench.build("FROM base\nUSER nobody\nRUN true\n")
    assert caught.value.location is not None
    assert caught.value.location.line == 3


def test_what_a_command_leaves(bench: Bench) -> None:
    """Mount points, resolv.conf and the like are not in the layer, whatever the image has."""
    bench.build(
        "FROM base\nRUN cat /etc/resolv.conf /etc/hosts > /dev/null && test -d /proc/self && test -c /dev/null\n"
    )
    assert bench.top() == []
    bench.build("FROM base\nRUN rm -rf /etc/hosts; ln -s /run/nothing /etc/resolv.conf 2>&1; true\n")
    assert bench.top() == []
    bench.write("link/etc/x")
    os.symlink("../run/systemd/resolv.conf", bench.context / "link/etc/resolv.conf")
    bench.build("FROM base\nCOPY link/ /\nRUN cat /etc/resolv.conf\n")
    assert "nameserver" in bench.output
    assert not [one for one in bench.top() if one.startswith("run")]


def test_failures_name_the_line(bench: Bench) -> None:
    with pytest.raises(RunFailed) as failed:
        bench.build("FROM base\n\nRUN echo out; echo err >&2; exit 3\n")
    assert failed.value.exit_code == 3
    assert sorted(failed.value.output.split()) == ["err", "out"]
    assert "dockerfile_inline:3:1: error[build-step-failed]: RUN echo out" in failed.value.render()
    assert {one.stream for one in bench.events if one.kind == "log"} == {"stdout", "stderr"}
    assert [one.kind for one in bench.events if one.kind in ("failed", "done")][-1] == "failed"
    with pytest.raises(BuildError, match="not found in the image's PATH"):
        bench.build('FROM base\nRUN ["/no/such"]\n')
    with pytest.raises(CopyError, match="not found"):
        bench.build("FROM base\nRUN echo not run > /x\nCOPY nothing /\n")
    with pytest.raises(DockerfileInvalid):
        bench.build("FROM base\nRUNN true\n")
    with pytest.raises(RegistryUnreachable) as unreachable:
        bench.build("FROM base\nFROM localhost:1/missing:1\n")
    assert "dockerfile_inline:2:1: error[registry-unreachable]" in unreachable.value.render()


def test_heredocs(bench: Bench) -> None:
    text = "FROM base\nRUN <<EOF\necho one\ntouch /two\nEOF\nRUN <<EOF\n#!/bin/sh\necho $0\nEOF\n"
    bench.build(f"{text}COPY <<three /\nthird\nthree\n")
    assert "one\n" in bench.output
    assert bench.read("three") == "third\n"
    assert "two" in bench.files()
    assert not any("pipes" in one for one in bench.files())

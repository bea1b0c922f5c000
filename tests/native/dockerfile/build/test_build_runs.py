"""RUN with mounts, networks and privileges."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from workbench import Bench

from orchestrator.engines.native.dockerfile.performing.build_network import render_build_resolv_conf
from orchestrator.engines.native.dockerfile.performing.run_step import RunFailed
from orchestrator.engines.native.dockerfile.performing.ssh_agent import open_agent
from orchestrator.engines.native.dockerfile.request import BuildSecret, SshSource
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.engines.native.runtime import oci_runtime as runtime
from orchestrator.engines.native.runtime.oci_runtime import load_runtime
from orchestrator.engines.native.spawn import find_program
from orchestrator.model import Ulimit
from orchestrator.source import Location


def test_bind_mounts(bench: Bench) -> None:
    bench.write("src/x", "context\n")
    bench.write("hidden", "no")
    bench.write(".dockerignore", "hidden\n")
    text = (
        "FROM base AS other\nRUN echo stage > /file\nFROM base\n"
        "RUN --mount=type=bind,target=/c cat /c/src/x && ! test -e /c/hidden && ! touch /c/y 2>/dev/null\n"
        "RUN --mount=type=bind,source=src,target=/c,rw touch /c/y && ls /c\n"
        "RUN --mount=type=bind,from=other,source=/file,target=/f cat /f\n"
        "RUN --mount=type=bind,from=base,source=/etc,target=/e head -n 1 /e/passwd\n"
    )
    assert bench.build(text).built_steps == 5
    assert bench.output == "context\nx\ny\nstage\nroot:x:0:0:root:/root:/bin/sh\n"
    assert all(not list(one.iterdir()) for one in bench.image().layers[:4]), "nothing of it is in a layer"
    assert not (bench.context / "src/y").exists()
    assert bench.build(text).built_steps == 0
    bench.write("hidden", "changed")
    assert bench.build(text).built_steps == 0, "what is ignored does not count"
    bench.write("src/x", "changed\n")
    assert bench.build(text).built_steps == 2 + 2
    os.chown(bench.context / "src/x", 7, 8)
    bench.build("FROM base\nRUN --mount=type=bind,source=src,target=/c ls -ln /c/x | cut -c 1-24\n")
    assert bench.output == "-rw-r--r--    1 0        0"[: len(bench.output) - 1] + "\n"
    with pytest.raises(BuildError, match="nothing"):
        bench.build("FROM base\nRUN --mount=type=bind,source=nothing,target=/c true\n")


def test_cache_mounts(bench: Bench) -> None:
    def run(number: int, options: str) -> str:
        bench.build(f"FROM base\nRUN --mount=type=cache,{options} echo {number} >> /c/n; cat /c/n; ls -ld /c\n")
        return bench.output

    assert run(1, "target=/c,mode=0700,uid=101").startswith("1\ndrwx------")
    assert run(2, "target=/c").startswith("1\n2\n")
    assert run(3, "id=other,target=/c").startswith("3\n")
    assert run(4, "id=other,target=/c,sharing=locked").startswith("3\n4\n")
    bench.build("FROM base\nRUN --mount=type=cache,id=seed,target=/c,from=base,source=/etc cat /c/group\n")
    assert bench.output.startswith("root:")
    assert not any(bench.image().layers[0].iterdir())


def test_a_locked_cache_has_one_user_at_a_time(bench: Bench) -> None:
    step = "RUN --mount=type=cache,id=l,target=/c,sharing=locked mkdir /c/held && sleep 0.2 && rmdir /c/held"
    text = f"FROM base AS a\n{step}\nFROM base AS b\n{step} && true\n"
    text += "FROM base\nCOPY --from=a /etc /a\nCOPY --from=b /etc /b\n"
    assert bench.build(text).built_steps == 4
    private = text.replace("sharing=locked", "sharing=private").replace("id=l", "id=p")
    result = bench.build(private)
    assert (result.built_steps, result.cached_steps) == (2, 2), "what is copied is the same as before"


def test_tmpfs_and_heredoc_mounts(bench: Bench) -> None:
    bench.build("FROM base\nRUN --mount=type=tmpfs,target=/t,size=1048576 df -k /t | tail -n 1; touch /t/x\n")
    assert " 1024 " in bench.output
    assert bench.top() == []


def test_secrets(bench: Bench) -> None:
    file = bench.folder / "file"
    file.write_text("from a file\n")
    secrets = (BuildSecret(id="a", content=b"hush\n"), BuildSecret(id="b", file=str(file)))
    text = (
        "FROM base\n"
        "RUN --mount=type=secret,id=a,required cat /run/secrets/a; ls -l /run/secrets/a | cut -c 1-10\n"
        "RUN --mount=type=secret,id=b,target=/root/b,mode=0444,uid=101 cat /root/b; ls -ln /root/b | cut -c 1-20\n"
        'RUN --mount=type=secret,id=a,env=TOKEN echo "<$TOKEN>"; ls /run/secrets 2>/dev/null; true\n'
        "RUN --mount=type=secret,id=missing ls /run/secrets/missing 2>/dev/null || echo optional\n"
    )
    bench.build(text, secrets=secrets)
    assert bench.output == "hush\n-r--------\nfrom a file\n-r--r--r--    1 101 \n<hush\n>\noptional\n"
    kept = [one for one in bench.layout.images.rglob("*") if one.is_file() and one.stat().st_size < 100_000]
    assert not [one for one in kept if b"hush\n" in one.read_bytes()]
    again = (BuildSecret(id="a", content=b"changed\n"), *secrets[1:])
    assert bench.build(text, secrets=again).built_steps == 0, "what a secret says does not count"
    with pytest.raises(BuildError, match="the secret c is required") as caught:
        bench.build("FROM base\nRUN --mount=type=secret,id=c,required true\n", secrets=secrets)
    assert caught.value.location is not None
    assert caught.value.location.line == 2


def test_an_agent_is_forwarded(bench: Bench) -> None:
    path = bench.folder / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(10)
        listener.bind(str(path))
        listener.listen(1)
        source = SshSource(id="x", paths=(str(path),))
        where = Location("Dockerfile", 1, 1)
        with ExitStack() as keep, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(open_agent(source, bench.folder, (101, 102), 0o600, keep, where)))
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                client.sendall(b"question")
                assert connection.recv(100) == b"question"
                connection.sendall(b"answer")
            assert client.recv(100) == b"answer"
            assert client.recv(100) == b""
        step = "RUN --mount=type=ssh,id=x,required,mode=0606,uid=101 ls -ln $SSH_AUTH_SOCK | cut -c 1-20\n"
        bench.build(f"FROM base\n{step}", ssh=(source,))
    assert bench.output == "srw----rw-    1 101 \n"
    assert bench.top() == []
    with pytest.raises(BuildError, match="the ssh agent default is required"):
        bench.build("FROM base\nRUN --mount=type=ssh,required true\n")


def test_keys_get_an_agent(tmp_path: Path) -> None:
    if find_program("ssh-add") is None or find_program("ssh-keygen") is None:
        pytest.skip("openssh-client is not installed")
    key, folder, where = tmp_path / "key", tmp_path / "folder", Location("Dockerfile", 1, 1)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    folder.mkdir()
    with ExitStack() as keep:
        path = open_agent(SshSource(id="x", paths=(str(key),)), folder, (0, 0), 0o600, keep, where)
        env = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        listed = subprocess.run(["ssh-add", "-l"], env=env, capture_output=True, text=True, check=True).stdout
        assert "ED25519" in listed
    key.write_text("no key")
    with pytest.raises(BuildError, match=r"ssh x: .*key: "), ExitStack() as keep:
        (folder / "agent").unlink()
        open_agent(SshSource(id="x", paths=(str(key),)), folder, (0, 0), 0o600, keep, where)


def test_networks(bench: Bench) -> None:
    hosts = (("db", "10.1.2.3"), ("gate", "host-gateway"))
    bench.build("FROM base\nRUN ip -o -4 addr; ip route; grep -E 'db|gate' /etc/hosts\n", extra_hosts=hosts)
    assert "eth0" in bench.output
    assert "default via" in bench.output
    assert "10.1.2.3\tdb" in bench.output
    gateway = bench.output.partition("default via ")[2].split()[0]
    assert f"{gateway}\tgate" in bench.output
    bench.build("FROM base\nRUN --network=none ip -o -4 addr\n")
    assert "eth0" not in bench.output
    with pytest.raises(BuildError, match="not allowed") as caught:
        bench.build("FROM base\nRUN --network=host true\n")
    assert "network.host" in caught.value.hint
    bench.build("FROM base\nRUN --network=host readlink /proc/self/ns/net\n", entitlements=("network.host",))
    assert bench.output.strip() == os.readlink("/proc/self/ns/net")
    same = bench.build("FROM base\nRUN ip -o -4 addr\n", network="none")
    assert same.built_steps == 0, "it means the same as the flag"
    bench.build("FROM base\nRUN ip -o -4 addr && true\n", network="none")
    assert "eth0" not in bench.output


def test_the_host_is_reached_by_masquerade(bench: Bench) -> None:
    """A server on the host's side of the bridge hears the step."""
    server = socket.create_server(("0.0.0.0", 0))
    server.settimeout(10)
    port = server.getsockname()[1]

    def answer() -> None:
        with suppress(TimeoutError):
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"served\n")

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        bench.build(f"FROM base\nRUN nc gate {port}\n", extra_hosts=(("gate", "host-gateway"),))
    finally:
        thread.join()
        server.close()
    assert bench.output == "served\n"


def test_steps_at_the_same_time_do_not_see_each_other(bench: Bench) -> None:
    """The server waits until the client has tried every address of a neighbour, and nobody has answered."""
    show, mount = "ip -o -4 addr show eth0", "RUN --mount=type=cache,target=/c"
    prefix = "$(ip -o -4 addr show eth0 | sed 's/.* inet \\([0-9.]*\\)\\..*/\\1/')"
    last = "$(ip route | sed -n 's/default via .*\\.\\([0-9]*\\) dev.*/\\1/p')"
    text = (
        f"FROM base AS server\n{mount} {show}; (nc -l -p 99 < /etc/group &); touch /c/up; "
        "for i in $(seq 1200); do test -e /c/done && exit 0; sleep 0.05; done; exit 1\n"
        f"FROM base AS client\n{mount} {show}; until test -e /c/up; do sleep 0.05; done; "
        f"for n in 1 2; do nc -w 1 {prefix}.$(({last} + n)) 99; done; touch /c/done\n"
        "FROM base\nCOPY --from=server /etc /s\nCOPY --from=client /etc /c\n"
    )
    bench.build(text)
    assert len(set(re.findall(r"inet ([0-9.]+)/26", bench.output))) == 2
    assert "web:x" not in bench.output


def test_privileges_and_limits(bench: Bench) -> None:
    with pytest.raises(BuildError, match="not allowed"):
        bench.build("FROM base\nRUN --security=insecure true\n")
    probe = "mkdir /m && mount -t tmpfs x /m && echo mounted || echo refused"
    bench.build(f"FROM base\nRUN {probe}\n")
    assert "refused\n" in bench.output
    bench.build(f"FROM base\nRUN --security=insecure {probe}\n", entitlements=("security.insecure",))
    assert bench.output == "mounted\n"
    bench.build(f"FROM base\nRUN {probe}; true\n", privileged=True)
    assert bench.output == "mounted\n"
    limits = {"nofile": Ulimit(soft=99, hard=100)}
    bench.build("FROM base\nRUN ulimit -n; df -k /dev/shm | tail -n 1\n", ulimits=limits, shm_size=1 << 21)
    assert bench.output.startswith("99\n")
    assert " 2048 " in bench.output
    with pytest.raises(BuildError, match="no limit 'nofiles'"):
        bench.build("FROM base\nRUN true\n", ulimits={"nofiles": Ulimit(soft=1, hard=1)})


@pytest.mark.parametrize("files", [3, 10, 20])
def test_a_limit_that_the_runtime_itself_does_not_survive(bench: Bench, files: int) -> None:
    with pytest.raises(BuildError, match=rf"the limit of {files} open files \(nofile\) is too low") as raised:
        bench.build("FROM base\nRUN true\n", ulimits={"nofile": Ulimit(soft=files, hard=files)})
    assert raised.value.location is not None
    assert "64" in raised.value.hint


def test_the_other_runtime(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_program("runc") is None:
        pytest.skip("runc is not installed")
    monkeypatch.setattr(runtime, "load_runtime", lambda layout, facts: load_runtime(layout, facts, "runc"))
    bench.build("FROM base\nRUN --mount=type=tmpfs,target=/t echo made > /made; ls -d /t; exit 0\n")
    assert bench.output == "/t\n"
    assert bench.top() == ["made"]
    with pytest.raises(BuildError, match="/no/such: not found") as caught:
        bench.build('FROM base\nRUN ["/no/such"]\n')
    assert caught.value.location is not None
    with pytest.raises(RunFailed):
        bench.build("FROM base\nRUN exit 3\n")


def test_resolv_conf() -> None:
    files = {"/etc/resolv.conf": "nameserver 127.0.0.53\nnameserver ::1\nsearch a.test\noptions ndots:2\n"}
    assert render_build_resolv_conf(lambda path: files.get(path, "")) == (
        "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch a.test\noptions ndots:2\n"
    )
    files["/run/systemd/resolve/resolv.conf"] = "nameserver 192.0.2.1\nsearch b.test\n"
    assert render_build_resolv_conf(lambda path: files.get(path, "")).startswith("nameserver 192.0.2.1\nsearch a.test")
    files["/etc/resolv.conf"] = "nameserver 192.0.2.7\n"
    assert render_build_resolv_conf(lambda path: files.get(path, "")) == "nameserver 192.0.2.7\n"

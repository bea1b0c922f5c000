"""Docker and Podman, each with a store of its own, without networks of their own."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

START_SECONDS = 60


class Peer:
    """Another tool that builds, moves and runs images. All methods raise AssertionError with the tool's output."""

    name = ""
    programs: tuple[str, ...] = ()

    def __init__(self, work: Path) -> None:
        self.work = work
        self.group = f"interchange-{os.getpid()}-{self.name}"
        work.mkdir(parents=True)

    def command(self) -> list[str]:
        """The program with the options that every call needs."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The environment of every call."""
        home = self.work / "home"
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "STACK_"))}
        return {**kept, "HOME": str(home)}

    def call(self, *arguments: str) -> str:
        """Run one command of the tool; its standard output."""
        done = subprocess.run(
            [*self.command(), *arguments], capture_output=True, text=True, env=self.environment(), check=False
        )
        assert done.returncode == 0, f"{self.name} {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def build(self, context: Path, tag: str) -> None:
        """Build an image."""
        raise NotImplementedError

    def pull(self, reference: str) -> None:
        """Fetch an image from a registry without TLS on loopback."""
        self.call("pull", reference)

    def push(self, reference: str) -> None:
        """Send an image to such a registry."""
        self.call("push", reference)

    def run(self, reference: str) -> str:
        """What the image's own command prints."""
        return self.call("run", "--rm", "--network=none", reference)

    def close(self) -> None:
        """Remove the control groups that containers left."""
        groups = Path("/sys/fs/cgroup")
        for top in [*groups.glob(self.group), *groups.glob(f"*/{self.group}")]:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


class Docker(Peer):
    """A daemon without bridge, firewall rules and the machine's settings."""

    name = "docker"
    programs = ("dockerd", "docker")

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        settings = work / "daemon.json"
        settings.write_text("{}\n")
        command = ["dockerd", "--config-file", str(settings), "--host", f"unix://{work}/d.sock", "--bridge=none"]
        command += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", f"--cgroup-parent=/{self.group}"]
        command += [
            "--data-root",
            str(work / "data"),
            "--exec-root",
            str(work / "exec"),
            "--pidfile",
            str(work / "pid"),
        ]
        with (work / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while subprocess.run(
            ["docker", "version"], capture_output=True, env=self.environment(), check=False
        ).returncode:
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise AssertionError((work / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)

    def command(self) -> list[str]:
        return ["docker"]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "DOCKER_HOST": f"unix://{self.work}/d.sock"}

    def build(self, context: Path, tag: str) -> None:
        # BuildKit where this client has it: a current client without the buildx plugin knows the old builder only.
        arguments = ["build", "--network=host", "-t", tag, str(context)]
        for kit in ("1", "0"):
            done = subprocess.run(
                ["docker", *arguments],
                capture_output=True,
                text=True,
                env={**self.environment(), "DOCKER_BUILDKIT": kit},
                check=False,
            )
            if done.returncode == 0:
                return
        raise AssertionError(done.stdout + done.stderr)

    def close(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
            self.process.wait(60)
        for place in (self.work / "exec" / "netns").glob("*"):
            subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)
        super().close()


class Podman(Peer):
    """Podman with its usual storage."""

    name = "podman"
    programs = ("podman", "runc")

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        # Without CAP_SYS_RESOURCE a container cannot get more than this process has.
        files = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        processes = min(4096, resource.getrlimit(resource.RLIMIT_NPROC)[1])
        (work / "containers.conf").write_text(
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
            f'[network]\nnetwork_config_dir = "{work}/networks"\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        )

    def command(self) -> list[str]:
        places = [f"--root={self.work}/data", f"--runroot={self.work}/run", f"--tmpdir={self.work}/tmp"]
        return ["podman", *places, "--storage-driver=overlay"]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "CONTAINERS_CONF": str(self.work / "containers.conf")}

    def build(self, context: Path, tag: str) -> None:
        self.call("build", "--isolation=chroot", "--network=host", "--pull=never", "-t", tag, str(context))

    def pull(self, reference: str) -> None:
        self.call("pull", "--tls-verify=false", reference)

    def push(self, reference: str) -> None:
        self.call("push", "--tls-verify=false", reference)

    def run(self, reference: str) -> str:
        return self.call("run", "--rm", "--network=none", f"--cgroup-parent=/{self.group}", reference)

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.work / "data" / "overlay")], capture_output=True, check=False)
        super().close()


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Docker, Podman)}


def find_missing(peer: type[Peer]) -> list[str]:
    """The programs of a peer that this machine does not have."""
    return [one for one in peer.programs if shutil.which(one) is None]

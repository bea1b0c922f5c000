"""A Docker daemon for one run, beside whatever the machine has: own data, own socket, own containerd."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

START_SECONDS = 60
STOP_SECONDS = 60


class PrivateDocker:
    """Started and stopped by its process id; its firewall rules and bridges live in this run's network namespace."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.socket = work / "docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The value for DOCKER_HOST."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Returns when the daemon answers.

        Raises:
            RuntimeError: it ended, or does not answer in time; with the last lines of its log.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        settings = self.work / "daemon.json"
        # An empty file instead of /etc/docker/daemon.json: the machine's own settings do not count here.
        settings.write_text("{}\n")
        command = ["dockerd", "--config-file", str(settings), "--host", self.address]
        command += ["--data-root", str(self.work / "data"), "--exec-root", str(self.work / "exec")]
        command += ["--pidfile", str(self.work / "dockerd.pid")]
        with (self.work / "dockerd.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                tail = (self.work / "dockerd.log").read_text(errors="replace").splitlines()[-5:]
                raise RuntimeError("dockerd does not answer:\n" + "\n".join(tail))
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether the API says OK."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(5)
                client.connect(str(self.socket))
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in client.recv(4096)
        except OSError:
            return False

    def stop(self) -> None:
        """Asks it to end, which ends its containerd too; kills it when it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

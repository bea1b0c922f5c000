"""Builds cases with real tools: Docker with BuildKit, and Buildah."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .base import write_base
from .cases import Case
from .context import read_content, write_tree
from .fingerprint import describe_image

TAG = "localhost/conformance:case"
START_SECONDS = 60


class BuildFailed(Exception):
    """The tool refused the case; with its output."""


class ReferenceTool:
    """One tool, which works below `work`; `root` is a folder to run it in with chroot, or None."""

    name = ""

    def __init__(self, work: Path, root: Path | None, server: str) -> None:
        self.work = work
        self.root = root
        self.server = server
        self.base = work / "base.tar"
        self.home = work / "home"
        work.mkdir(parents=True, exist_ok=True)
        write_base(self.base)

    def run(self, *arguments: str, stdin: bytes | None = None, cwd: Path | None = None) -> str:
        """Run a command. Raises BuildFailed with everything that it said."""
        done = subprocess.run(
            [*self.prefix(cwd), *arguments],
            input=stdin or b"",
            capture_output=True,
            env=self.environment(),
            check=False,
        )
        output = (done.stdout + done.stderr).decode(errors="replace")
        if done.returncode:
            raise BuildFailed(output)
        return output

    def prefix(self, cwd: Path | None = None) -> list[str]:
        """What comes before a command."""
        move = ["env", "-C", str(cwd)] if cwd else []
        return (["chroot", str(self.root)] if self.root else []) + move

    def environment(self) -> dict[str, str]:
        """The tool's environment: nothing of the caller's configuration."""
        self.home.mkdir(parents=True, exist_ok=True)
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.home), "LC_ALL": "C.UTF-8"}

    def describe(self, case: Case) -> dict[str, Any]:
        """Build a case, and say what came out: a fingerprint, or the error."""
        folder = self.work / "cases" / str(case)
        # A home of its own: for one client BuildKit takes a file of the same name, size and time for the same file.
        self.home = folder / "home"
        try:
            for reference, before in case.before.items():
                self.build_before(folder / "before", reference, before)
            context = folder / "context"
            write_context(case, context, self.server)
            archive = folder / "image.tar"
            self.build(case, context, folder, archive)
            return {**describe_image(archive, self.base, self.server), "by": self.name}
        except BuildFailed as error:
            return {"error": shorten_error(str(error)), "by": self.name}
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def build_before(self, folder: Path, reference: str, before: str | dict[str, Any]) -> None:
        """Build one of the images that a case needs."""
        raw = {"dockerfile": before} if isinstance(before, str) else before
        shutil.rmtree(folder, ignore_errors=True)
        write_tree(folder, raw.get("files", {}))
        (folder / "Dockerfile").write_text(raw["dockerfile"])
        self.build_image(folder, ["-t", reference, str(folder)])

    def build(self, case: Case, context: Path, folder: Path, archive: Path) -> None:
        """Build a case into a docker-archive."""
        arguments, stdin = render_options(case, context, folder, self.server)
        self.build_image(context, ["-t", TAG, *arguments], stdin)
        self.save(archive)

    def build_image(self, cwd: Path, arguments: Sequence[str], stdin: bytes | None = None) -> None:
        """Call the tool's build command."""
        raise NotImplementedError

    def save(self, archive: Path) -> None:
        """Write the image TAG as a docker-archive."""
        raise NotImplementedError

    def close(self) -> None:
        """End what was started."""


class DockerTool(ReferenceTool):
    """`docker buildx build` against a daemon of its own."""

    def __init__(self, work: Path, root: Path | None, server: str) -> None:
        super().__init__(work, root, server)
        settings = work / "daemon.json"
        settings.write_text('{"features": {"containerd-snapshotter": false}}\n')
        command = ["dockerd", "--config-file", str(settings), "--host", f"unix://{work}/docker.sock"]
        command += [
            "--data-root",
            str(work / "data"),
            "--exec-root",
            str(work / "exec"),
            "--pidfile",
            str(work / "pid"),
        ]
        with (work / "dockerd.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*self.prefix(), *command], stdout=log, stderr=log, env=super().environment(), start_new_session=True
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.name = "docker " + self.run("docker", "version", "--format", "{{.Server.Version}}").strip()
                break
            except BuildFailed:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((work / "dockerd.log").read_text(errors="replace")[-2000:]) from None
                time.sleep(0.1)
        self.run("docker", "load", "--input", str(self.base))
        # Attestations would make the image an index; a client without buildx has none, and no such option.
        try:
            self.run("docker", "buildx", "version")
            self.options = ["--provenance=false"]
        except BuildFailed:
            self.options = []

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "DOCKER_HOST": f"unix://{self.work}/docker.sock", "DOCKER_BUILDKIT": "1"}

    def build_image(self, cwd: Path, arguments: Sequence[str], stdin: bytes | None = None) -> None:
        self.run("docker", "build", "--progress=plain", *self.options, *arguments, stdin=stdin, cwd=cwd)

    def save(self, archive: Path) -> None:
        self.run("docker", "save", "--output", str(archive), TAG)

    def close(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(60)


class BuildahTool(ReferenceTool):
    """`buildah build` with a store of its own."""

    def __init__(self, work: Path, root: Path | None, server: str) -> None:
        super().__init__(work, root, server)
        self.command = ["buildah", "--root", str(work / "data"), "--runroot", str(work / "run")]
        self.name = " ".join(self.run("buildah", "--version").split()[:3]).replace(" version", "")
        self.run(*self.command, "pull", f"docker-archive:{self.base}")

    def build_image(self, cwd: Path, arguments: Sequence[str], stdin: bytes | None = None) -> None:
        options = ["--layers", "--pull=never", "--format=docker", "--isolation=chroot"]
        self.run(*self.command, "build", *options, *arguments, stdin=stdin, cwd=cwd)

    def save(self, archive: Path) -> None:
        archive.unlink(missing_ok=True)
        self.run(*self.command, "push", TAG, f"docker-archive:{archive}:{TAG}")


TOOLS: dict[str, type[ReferenceTool]] = {"docker": DockerTool, "buildah": BuildahTool}


def render_options(case: Case, context: Path, folder: Path, server: str) -> tuple[list[str], bytes | None]:
    """The options of `docker build`, which Buildah shares, and what goes to its standard input."""
    options = case.options
    text = case.replace_server(server)
    arguments = [f"--build-arg={key}={value}" for key, value in options.get("args", {}).items()]
    arguments += [f"--label={key}={value}" for key, value in options.get("labels", {}).items()]
    arguments += [f"--target={options['target']}"] if "target" in options else []
    arguments += [f"--network={options['network']}"] if "network" in options else []
    arguments += [f"--shm-size={options['shm_size']}"] if "shm_size" in options else []
    arguments += [f"--ulimit={key}={value}" for key, value in options.get("ulimits", {}).items()]
    arguments += [f"--add-host={key}:{value}" for key, value in options.get("extra_hosts", {}).items()]
    if "source_date_epoch" in options:
        arguments.append(f"--build-arg=SOURCE_DATE_EPOCH={options['source_date_epoch']}")
    for name, source in options.get("contexts", {}).items():
        arguments.append(f"--build-context={name}={render_context(source, context, server)}")
    for name, secret in options.get("secrets", {}).items():
        (folder / f"secret-{name}").write_text(secret)
        arguments.append(f"--secret=id={name},src={folder}/secret-{name}")
    place = [f"--file={options['dockerfile']}"] if "dockerfile" in options else []
    if "stdin_tar" in options:
        return [*arguments, *place, "-"], read_content(options["stdin_tar"])
    if "context" in options:
        return [*arguments, *place, options["context"].replace("@HTTP@", server)], None
    if options.get("stdin"):
        return [
            *arguments,
            *([] if options.get("without_context") else ["-f", "-"]),
            "-" if options.get("without_context") else str(context),
        ], text.encode()
    return [*arguments, "-f", str(context / options.get("dockerfile", "Dockerfile")), str(context)], None


def write_context(case: Case, context: Path, server: str) -> None:
    """The case's files, and its Dockerfile among them unless it comes another way."""
    place = (
        {} if case.options.get("stdin") else {case.options.get("dockerfile", "Dockerfile"): case.replace_server(server)}
    )
    write_tree(context, {**case.files, **place})


def render_context(source: str, context: Path, server: str) -> str:
    """An additional context: ``dir:PATH`` is below the case's own context."""
    return str(context / source[4:]) if source.startswith("dir:") else source.replace("@HTTP@", server)


def shorten_error(text: str) -> str:
    """The line that tells what is wrong."""
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s*(ERROR|Error)", line)]
    return re.sub(r"/\S*/cases/[^/]*/", "", lines[-1] if lines else text.strip().splitlines()[-1])

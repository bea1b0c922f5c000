"""Git repositories for tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ALLOW_PROTOCOL": "file",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, untouched by the user's settings."""
    command = [
        "git",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "protocol.file.allow=always",
        "-C",
        str(folder),
        *arguments,
    ]
    done = subprocess.run(command, env={**os.environ, **_ENVIRONMENT}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_repository(folder: Path) -> dict[str, str]:
    """Branches ``main`` and ``side``, the tag ``v1`` (annotated), an executable, a link. Returns commits by name."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "sub").mkdir()
    (folder / "sub/tool").write_text("tool 1")
    (folder / "sub/tool").chmod(0o755)
    (folder / "way").symlink_to("sub/tool")
    (folder / ".dockerignore").write_text("sub\n")
    commits = {"first": _commit(folder, "first")}
    git(folder, "tag", "-a", "v1", "-m", "v1")
    git(folder, "checkout", "-q", "-b", "side")
    (folder / "only-here").write_text("side")
    commits["side"] = _commit(folder, "side")
    git(folder, "checkout", "-q", "main")
    (folder / "sub/tool").write_text("tool 2")
    commits["main"] = _commit(folder, "main")
    return commits


def _commit(folder: Path, message: str) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")

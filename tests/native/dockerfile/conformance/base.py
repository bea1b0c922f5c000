"""The image that the cases stand on: busybox, a few users, always the same beside the program itself."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from .context import TIME, make_tar

BUSYBOX = Path("/bin/busybox")
REFERENCE = "docker.io/library/busybox:latest"

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "app:x:1000:1000:app:/home/app:/bin/sh\n"
    "alice:x:1001:1002:alice:/home/alice:/bin/sh\n"
)
GROUP = "root:x:0:\ndaemon:x:1:\nwheel:x:10:alice,app\nstaff:x:50:alice\napp:x:1000:\nalice:x:1002:\n"
CONFIG = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}


def write_base(path: Path) -> None:
    """Write the image as a docker-archive."""
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    entries: dict[str, Any] = {f"{name}/": None for name in ("bin", "dev", "etc", "home", "lib", "opt", "proc", "sys")}
    entries |= {"root/": {"mode": 0o700}, "tmp/": {"mode": 0o1777}, "run/": None, "usr/": None, "usr/bin/": None}
    entries |= {"var/": None, "var/run": {"link": "/run"}, "home/app/": {"owner": [1000, 1000]}}
    entries |= {f"bin/{name}": {"link": "busybox"} for name in applets if name != "busybox"}
    entries |= {"etc/passwd": PASSWD, "etc/group": GROUP}
    layer = add_binary(make_tar(entries), "bin/busybox", BUSYBOX.read_bytes())
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2001-09-09T01:46:40Z",
        "config": CONFIG,
        "rootfs": {"type": "layers", "diff_ids": [digest]},
        "history": [{"created": "2001-09-09T01:46:40Z", "created_by": "base"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": ["busybox:latest"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        for name, data in (
            ("layer.tar", layer),
            ("config.json", json.dumps(document).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def add_binary(tar: bytes, name: str, data: bytes) -> bytes:
    """The tar with one executable more."""
    stream = io.BytesIO(tar)
    with tarfile.open(fileobj=stream, mode="a") as archive:
        info = tarfile.TarInfo(name)
        info.mode, info.size, info.mtime = 0o755, len(data), TIME
        archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()

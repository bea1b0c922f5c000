"""Small tars and images for tests."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")

Entry = tuple[str, dict[str, Any]]


def make_tar(entries: Iterable[Entry], *, kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of ``(name, {"data": ..., "type": ..., attributes of TarInfo})`` entries."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=kind) as archive:
        for name, attributes in entries:
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            values = dict(attributes)
            data = values.pop("data", b"")
            for key, value in values.items():
                setattr(info, key, value)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def folder(name: str, mode: int = 0o755, **more: Any) -> Entry:
    return name, {"type": tarfile.DIRTYPE, "mode": mode, **more}


def file(name: str, data: bytes = b"", **more: Any) -> Entry:
    return name, {"data": data, **more}


def symlink(name: str, target: str) -> Entry:
    return name, {"type": tarfile.SYMTYPE, "linkname": target}


def hardlink(name: str, target: str) -> Entry:
    return name, {"type": tarfile.LNKTYPE, "linkname": target}


def make_rootfs() -> bytes:
    """A root filesystem that runs: busybox and its links."""
    entries = [folder("./"), folder("./bin"), folder("./tmp", 0o1777), folder("./etc")]
    entries.append(file("./bin/busybox", BUSYBOX.read_bytes(), mode=0o755))
    entries += [symlink(f"./bin/{name}", "busybox") for name in ("sh", "ls", "cat")]
    entries.append(file("./etc/passwd", b"root:x:0:0::/:/bin/sh\n"))
    return make_tar(entries)


def make_docker_archive(
    path: Path, layers: list[bytes], *, tags: list[str], config: dict[str, Any] | None = None
) -> str:
    """Write a docker-archive that skopeo understands. Returns the image identifier."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": config or {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    configuration = json.dumps(document).encode()
    names = [f"layer{position}/layer.tar" for position in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": tags, "Layers": names}]
    entries = [file(name, layer) for name, layer in zip(names, layers, strict=True)]
    entries += [file("config.json", configuration), file("manifest.json", json.dumps(manifest).encode())]
    path.write_bytes(make_tar(entries))
    return digest(configuration)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"

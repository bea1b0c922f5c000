"""The images that are pulled, made of this machine's own files, and the registry that serves them."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1_000_000
START_SECONDS = 20
DOCKER = "application/vnd.docker"


@dataclass(frozen=True)
class Layer:
    """Files of `folders`, in the order of their names, up to `size` bytes; or `count` small files without folders."""

    size: int
    folders: tuple[str, ...] = ()
    count: int = 0


@dataclass(frozen=True)
class BenchImage:
    """One image of the comparison."""

    title: str
    layers: tuple[Layer, ...]


IMAGES = {
    "app": BenchImage(
        "5 layers",
        (
            Layer(75 * MEGABYTE, ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")),
            Layer(30 * MEGABYTE, ("/usr/share/perl", "/usr/share/perl5", "/usr/share/locale")),
            Layer(25 * MEGABYTE, ("/usr/lib/python3", "/usr/lib/python3.11", "/usr/lib/python3.13")),
            Layer(15 * MEGABYTE, ("/usr/share/doc", "/usr/share/man")),
            Layer(5 * MEGABYTE, ("/usr/sbin", "/etc")),
        ),
    ),
    "many": BenchImage("one layer of 20,000 small files", (Layer(60 * MEGABYTE, count=20_000),)),
}


def iterate_files(folders: tuple[str, ...]) -> Iterator[str]:
    """Every file, folder and symbolic link below `folders`."""
    for folder in folders:
        for place, names, files in os.walk(folder):
            names.sort()
            yield place
            yield from (f"{place}/{name}" for name in sorted(files))
            yield from (f"{place}/{name}" for name in names if os.path.islink(f"{place}/{name}"))


def write_layer(layer: Layer) -> bytes:
    """The layer's tar, but for its end."""
    target, total = io.BytesIO(), 0
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in iterate_files(layer.folders):
            status = os.lstat(path)
            if total + status.st_size > layer.size or not (
                os.path.islink(path) or os.path.isdir(path) or os.path.isfile(path)
            ):
                continue
            total += status.st_size
            archive.add(path, recursive=False)
        chance = random.Random(1)
        words = [os.urandom(6).hex() for _ in range(2000)]
        for number in range(layer.count):
            if number % 25 == 0:
                folder = tarfile.TarInfo(f"srv/modules/{number // 500}/{number // 25}")
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(folder)
            info = tarfile.TarInfo(f"srv/modules/{number // 500}/{number // 25}/file-{number}.js")
            text = " ".join(chance.choices(words, k=chance.randrange(2, 2 * layer.size // layer.count // 13)))
            info.size, info.mode, info.mtime = len(text), 0o644, 1_700_000_000
            archive.addfile(info, io.BytesIO(text.encode()))
        return target.getvalue()[: archive.offset]


def mark_layer(tar: bytes, mark: str) -> bytes:
    """The tar with one more file, which makes it another layer."""
    info = tarfile.TarInfo(f"bench-{mark}")
    end = info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
    return tar + end


class PrivateRegistry:
    """Debian's docker-registry on loopback, with a folder of its own."""

    def __init__(self, root: Path) -> None:
        program = shutil.which("docker-registry")
        if not program:
            raise SystemExit("error: docker-registry is not installed (Debian: docker-registry)")
        root.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.host = f"127.0.0.1:{port}"
        settings = root / "config.yml"
        settings.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
            f'storage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp: {{addr: "{self.host}"}}\n'
        )
        with (root / "log").open("wb") as log:
            self.process = subprocess.Popen([program, "serve", str(settings)], stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while not self._answers(port):
            if time.monotonic() > end:
                raise SystemExit(f"error: the registry does not start, see {root}/log")
            time.sleep(0.05)

    @staticmethod
    def _answers(port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    def send(self, method: str, path: str, body: bytes, kind: str) -> str:
        """One request; returns the Location header. Raises RuntimeError for any answer but 2xx."""
        connection = http.client.HTTPConnection(self.host)
        connection.request(method, path, body=body, headers={"Content-Type": kind})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status // 100 != 2:
            raise RuntimeError(f"{method} {path}: {answer.status} {said[:300]!r}")
        return answer.getheader("Location") or ""

    def put_blob(self, name: str, data: bytes) -> str:
        """Store a blob; returns its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = self.send("POST", f"/v2/{name}/blobs/uploads/", b"", "application/octet-stream")
        path = place.partition(self.host)[2] or place
        joint = "&" if "?" in path else "?"
        self.send("PUT", f"{path}{joint}digest={digest}", data, "application/octet-stream")
        return digest

    def close(self) -> None:
        """Stop it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def make_layers(image: str) -> list[bytes]:
    """The tars of an image, base first, but for their ends."""
    return [write_layer(layer) for layer in IMAGES[image].layers]


def push_image(registry: PrivateRegistry, image: str, tars: list[bytes], tag: str) -> tuple[int, int]:
    """Push ``bench/<image>:<tag>``, none of whose layers any other tag has. Returns the bytes of its layers, plain and
    compressed.

    Nothing is removed between the rounds: ext4 does not give out an inode again within seconds of its deletion, and
    searches long for another.
    """
    name, layers, diff_ids, plain = f"bench/{image}", [], [], 0
    for tar in tars:
        data = mark_layer(tar, tag)
        plain += len(data)
        diff_ids.append(f"sha256:{hashlib.sha256(data).hexdigest()}")
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        packed = packer.compress(data) + packer.flush()
        digest = registry.put_blob(name, packed)
        layers.append({"mediaType": f"{DOCKER}.image.rootfs.diff.tar.gzip", "size": len(packed), "digest": digest})
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    digest = registry.put_blob(name, config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{DOCKER}.distribution.manifest.v2+json",
        "config": {"mediaType": f"{DOCKER}.container.image.v1+json", "size": len(config), "digest": digest},
        "layers": layers,
    }
    registry.send("PUT", f"/v2/{name}/manifests/{tag}", json.dumps(manifest).encode(), str(manifest["mediaType"]))
    return plain, sum(int(str(one["size"])) for one in layers)

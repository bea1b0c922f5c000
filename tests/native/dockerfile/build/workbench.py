"""A store with a busybox image to build on, a context, and an eye on what builds leave behind."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from orchestrator.engines.native.dockerfile.builder import build_image
from orchestrator.engines.native.dockerfile.request import BuildEvent, BuildRequest, BuildResult
from orchestrator.engines.native.images.image import Image
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

BUSYBOX = Path("/bin/busybox")
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/srv:/bin/sh\n"
GROUP = b"root:x:0:\nweb:x:102:\n"


def make_base_tar() -> bytes:
    target = io.BytesIO()
    names = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()

    def add(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **attributes: Any) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size, info.mtime = kind, 0o644, len(data), 1_000_000_000
        for key, value in attributes.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(data))

    with tarfile.open(fileobj=target, mode="w") as archive:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("srv", 0o755)):
            add(folder, tarfile.DIRTYPE, mode=mode)
        add("bin/busybox", data=BUSYBOX.read_bytes(), mode=0o755)
        for name in names:
            if name != "busybox":
                add(f"bin/{name}", tarfile.SYMTYPE, linkname="busybox", mode=0o777)
        add("etc/passwd", data=PASSWD)
        add("etc/group", data=GROUP)
    return target.getvalue()


class Bench:
    """A store with the image ``base``, and a context directory to build from."""

    def __init__(self, folder: Path, base: bytes) -> None:
        self.folder = folder
        self.layout = Layout(folder / "state", folder / "run")
        self.store = ImageStore(self.layout)
        self.context = folder / "context"
        self.context.mkdir()
        self.store.import_rootfs(io.BytesIO(base), reference="base", changes=["ENV PATH=/bin"])
        self.events: list[BuildEvent] = []

    def write(self, name: str, content: str | bytes = "", mode: int = 0o644) -> Path:
        """A file of the context."""
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def request(self, dockerfile: str, **options: Any) -> BuildRequest:
        return BuildRequest(**{"context": str(self.context), "inline": dockerfile, "tags": ("built",), **options})

    def build(self, dockerfile: str, *, cancel: Any = None, **options: Any) -> BuildResult:
        self.events.clear()
        return build_image(self.store, self.layout, self.request(dockerfile, **options), self.events.append, cancel)

    def image(self, name: str = "built") -> Image:
        return self.store.require_image(name)

    @property
    def output(self) -> str:
        """What the steps of the last build wrote."""
        return "".join(
            one.text
            for one in self.events
            if one.kind == "log" and not one.text.startswith(("image sha256:", "naming to "))
        )

    def files(self, name: str = "built", *, layers: int | None = None) -> dict[str, Path]:
        """The files of an image's topmost layers (all: None) by path; deleted ones are left out."""
        found: dict[str, Path] = {}
        for layer in reversed(self.image(name).layers[:layers]):
            for path in sorted(layer.rglob("*")):
                key = str(path.relative_to(layer))
                if path.is_char_device() and not path.is_symlink():
                    for gone in [one for one in found if one == key or one.startswith(f"{key}/")]:
                        del found[gone]
                else:
                    found[key] = path
        return found

    def read(self, path: str, name: str = "built") -> str:
        return self.files(name)[path].read_text()

    def top(self, name: str = "built") -> list[str]:
        """What the topmost layer holds."""
        layer = self.image(name).layers[0]
        return sorted(str(one.relative_to(layer)) for one in layer.rglob("*"))

    def leaks(self) -> list[str]:
        """What a build has left on the machine."""
        from e2e.leaks import await_no_leaks

        found = await_no_leaks(self.layout.state, self.layout.run, seconds=20)
        return [one for one in found if not one.startswith("process") or "pytest" not in one]

"""What an image is, as data that two tools can be compared by: its files beside the base image's, its configuration."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

KNOWN_TIME = 1_577_836_800
"""Modification times before this (2020) were put there on purpose; later ones are the time of the build."""

CONFIG_KEYS = (
    *("Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "StopSignal"),
    *("Healthcheck", "OnBuild", "Shell"),
)
NOT_OF_THE_IMAGE = re.compile(r"(dev|proc|sys)/")

_INODES = itertools.count()

Tree = dict[str, dict[str, Any]]
"""Path -> what stands there. The hidden key ``inode`` is the same for hard links."""


def describe_image(archive: Path, base: Path, server: str = "") -> dict[str, Any]:
    """The fingerprint of the first image of a docker-archive, whose first layers are those of `base`.

    `server` is the address of a web server of this run; it is replaced in the history.
    """
    below, old = read_base(base)
    document, tree = read_image(archive, below, old)
    config = {key: value for key, value in (document.get("config") or {}).items() if key in CONFIG_KEYS and value}
    history = document.get("history", [])
    result = {
        "files": describe_changes(tree, old),
        "removed": sorted(path for path in old.keys() - tree.keys() if not NOT_OF_THE_IMAGE.match(path)),
        "config": {key: config[key] for key in sorted(config)},
        "history": ["empty" if one.get("empty_layer") else "layer" for one in history],
        "created_by": [
            one.get("created_by", "").replace(server, "@HTTP@") if server else one.get("created_by", "")
            for one in history
        ],
        "platform": "/".join(str(document[key]) for key in ("os", "architecture", "variant") if document.get(key)),
    }
    if document.get("author"):
        result["author"] = document["author"]
    return result


def describe_changes(tree: Tree, old: Tree) -> dict[str, Any]:
    """What `tree` has that `old` has not, or has otherwise."""
    names: dict[int, list[str]] = {}
    for path in sorted(tree):
        if tree[path]["type"] == "file":
            names.setdefault(tree[path]["inode"], []).append(path)
    changed: dict[str, Any] = {}
    for path in sorted(tree):
        if NOT_OF_THE_IMAGE.match(path):
            continue
        entry = {key: value for key, value in tree[path].items() if key != "inode"}
        # What becomes of the times of folders differs from tool to tool and means nothing to anybody.
        if entry["type"] == "folder" or entry["mtime"] >= KNOWN_TIME:
            entry.pop("mtime", None)
        links = names.get(tree[path].get("inode", -1), [path])
        if len(links) > 1:
            entry["links"] = links
        before = {key: value for key, value in old.get(path, {}).items() if key != "inode"}
        if entry["type"] == "folder" and before.get("type") == "folder":
            before.pop("mtime", None)
            if before == {key: value for key, value in entry.items() if key != "mtime"}:
                continue
        if entry != before:
            changed[path] = entry
    return changed


@functools.cache
def read_base(archive: Path) -> tuple[str, Tree]:
    """The only layer's diff_id of the base image, and its files."""
    document, tree = read_image(archive)
    return document["rootfs"]["diff_ids"][0], tree


def read_image(archive: Path, below: str = "", old: Tree | None = None) -> tuple[dict[str, Any], Tree]:
    """The configuration document of an archive's first image, and its files with all layers applied.

    `old` is what the layer with the diff_id `below` holds, which then need not be read again.
    """
    tree: Tree = {}
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))[0]  # type: ignore[arg-type]
        document = json.load(outer.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        for number, name in enumerate(manifest["Layers"]):
            if number == 0 and document["rootfs"]["diff_ids"][0] == below and old is not None:
                tree |= old
                continue
            with tarfile.open(fileobj=outer.extractfile(name), mode="r:*") as layer:
                apply_layer(tree, layer)
    return document, tree


def apply_layer(tree: Tree, layer: tarfile.TarFile) -> None:
    """Put one layer over `tree`: whiteouts first, as they mean what lies below."""
    members = layer.getmembers()
    for member in members:
        path = _normalise(member.name)
        folder, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            _remove_children(tree, folder)
        elif name.startswith(".wh."):
            _remove(tree, f"{folder}/{name[4:]}".lstrip("/"))
    for member in members:
        path = _normalise(member.name)
        if path.rpartition("/")[2].startswith(".wh."):
            continue
        if not member.isdir():
            _remove_children(tree, path)
        tree[path] = _describe_member(tree, layer, member, path)


def _describe_member(tree: Tree, layer: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> dict[str, Any]:
    if member.islnk():
        return tree[_normalise(member.linkname)]
    entry: dict[str, Any] = {
        "type": "file",
        "mode": f"{member.mode & 0o7777:04o}",
        "owner": f"{member.uid}:{member.gid}",
    }
    if member.isdir():
        entry["type"] = "folder"
    elif member.issym():
        entry["type"], entry["target"] = "link", member.linkname
        del entry["mode"]
    elif member.ischr() or member.isblk():
        entry["type"] = f"device {member.devmajor}:{member.devminor}"
    elif member.isfifo():
        entry["type"] = "fifo"
    else:
        data = layer.extractfile(member).read()  # type: ignore[union-attr]
        entry["content"] = _shorten(data)
        entry["inode"] = next(_INODES)
    prefix = "SCHILY.xattr."
    xattrs = {key[len(prefix) :]: value for key, value in member.pax_headers.items() if key.startswith(prefix)}
    if xattrs:
        entry["xattrs"] = dict(sorted(xattrs.items()))
    entry["mtime"] = int(member.mtime)
    return entry


def _shorten(data: bytes) -> str:
    """Short texts as they are, which makes golden files and differences readable; everything else as its digest."""
    if len(data) <= 200:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            pass
        else:
            return text
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _normalise(name: str) -> str:
    return str(PurePosixPath("/", name)).strip("/")


def _remove(tree: Tree, path: str) -> None:
    tree.pop(path, None)
    _remove_children(tree, path)


def _remove_children(tree: Tree, path: str) -> None:
    for child in [one for one in tree if one.startswith(f"{path}/")]:
        del tree[child]

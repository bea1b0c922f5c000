"""Images made by hand in a registry: any media type, any compression, any lie."""

from __future__ import annotations

import http.client
import json
from typing import Any

from .loopback import Registry
from .tars import digest

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


def send(registry: Registry, method: str, path: str, body: bytes, kind: str) -> str:
    """One request that has to succeed; returns the Location header."""
    connection = http.client.HTTPConnection(registry.host)
    connection.request(method, path, body=body, headers={"Content-Type": kind})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status // 100 == 2, said
    return answer.getheader("Location") or ""


def fetch_manifest(registry: Registry, name: str, tag: str) -> bytes:
    """The manifest of a tag."""
    connection = http.client.HTTPConnection(registry.host)
    connection.request("GET", f"/v2/{name}/manifests/{tag}", headers={"Accept": f"{OCI}.manifest.v1+json"})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    assert answer.status == 200, data
    return data


def put_blob(registry: Registry, name: str, data: bytes) -> dict[str, Any]:
    """Store a blob; returns the beginning of its descriptor."""
    place = send(registry, "POST", f"/v2/{name}/blobs/uploads/", b"", "application/octet-stream")
    path = place.partition(registry.host)[2] or place
    joint = "&" if "?" in path else "?"
    send(registry, "PUT", f"{path}{joint}digest={digest(data)}", data, "application/octet-stream")
    return {"digest": digest(data), "size": len(data)}


def put_manifest(
    registry: Registry,
    name: str,
    tag: str,
    layers: list[dict[str, Any]],
    diff_ids: list[str],
    **config: Any,
) -> dict[str, Any]:
    """Store an OCI manifest whose configuration has `config` (``os``, ``architecture`` ...); returns its descriptor."""
    document = {"os": "linux", "architecture": "amd64", "config": {}, **config}
    document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    configuration = put_blob(registry, name, json.dumps(document).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": {"mediaType": f"{OCI}.config.v1+json", **configuration},
        "layers": layers,
    }
    body = json.dumps(manifest).encode()
    send(registry, "PUT", f"/v2/{name}/manifests/{tag}", body, str(manifest["mediaType"]))
    return {"mediaType": manifest["mediaType"], "digest": digest(body), "size": len(body)}


def put_image(registry: Registry, name: str, tag: str, layer: bytes, kind: str = "", **config: Any) -> dict[str, Any]:
    """An image of one layer, stored as it is (`layer` is a plain tar)."""
    described = {"mediaType": f"{OCI}.layer.v1.tar{kind}", **put_blob(registry, name, layer)}
    return put_manifest(registry, name, tag, [described], [digest(layer)], **config)


def put_index(
    registry: Registry, name: str, tag: str, entries: list[dict[str, Any]], kind: str = f"{OCI}.index.v1+json"
) -> str:
    """An index of manifests; returns its digest."""
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    send(registry, "PUT", f"/v2/{name}/manifests/{tag}", body, kind)
    return digest(body)

"""`pull` from a real registry: plain HTTP, TLS, passwords, tokens, and everything that can go wrong on the way."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.engines.native.images import transport, unpack
from orchestrator.engines.native.images.failures import (
    CredentialFailure,
    DiskFull,
    ImageMissing,
    InvalidImage,
    RateLimited,
    RegistryFault,
    RegistryUnreachable,
    TlsFailure,
    TransferCancelled,
    Unauthorized,
    UnsupportedImage,
)
from orchestrator.engines.native.images.pull import PullProgress
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .faulty import answer, require_bearer, run_proxy
from .loopback import Registry, find_port
from .tars import file, make_tar


def fresh_store(tmp_path: Path, name: str = "fresh") -> ImageStore:
    return ImageStore(Layout(tmp_path / name, tmp_path / "run"))


def write_login(host: str, user: str, password: str, **more: object) -> None:
    path = Path(os.environ["HOME"]) / ".docker/config.json"
    path.parent.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}, **more}))


@pytest.mark.parametrize("form", ["docker", "oci", "zstd"])
def test_pull(store: ImageStore, registry: Registry, sample: tuple[str, str], form: str) -> None:
    more = {
        "docker": ["--format=v2s2"],
        "oci": ["--format=oci"],
        "zstd": ["--format=oci", "--dest-compress-format=zstd"],
    }
    registry.fill(sample[0], "team/web:1", *more[form])
    seen: list[PullProgress] = []
    image = store.pull(f"{registry.host}/team/web:1", progress=seen.append)
    assert image.references == (f"{registry.host}/team/web:1",)
    assert image.repo_digests[0].startswith(f"{registry.host}/team/web@sha256:")
    assert image.config.cmd == ("/bin/sh",)
    assert image.created == "2024-01-02T03:04:05Z"
    assert (image.layers[0] / "app/new").read_bytes() == b"2"
    if form == "docker":
        assert image.id == sample[1]
    assert store.fsck(deep=True) == []
    by_layer = {one.layer: one for one in seen}
    assert len(by_layer) == 3
    assert all(one.status == "done" and one.current == one.total > 0 for one in by_layer.values())
    seen.clear()
    assert store.pull(f"{registry.host}/team/web:1", progress=seen.append) == image
    assert {one.status for one in seen} == {"waiting", "exists"}


def test_pull_by_digest(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    pinned = store.pull(f"{registry.host}/web:1").repo_digests[0]
    store.remove_image(f"{registry.host}/web:1")
    assert store.list_images() == ()
    image = store.pull(pinned)
    assert image.references == ()
    assert store.resolve_image(pinned) == image
    assert store.resolve_image(pinned.partition("@")[2]) == image
    assert store.remove_image(pinned).deleted == (image.id,)
    assert store.fsck() == []


def test_chooses_the_platform(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    entries = []
    for architecture, variant in (("arm64", ""), ("arm", "v6"), ("amd64", "")):
        config: dict[str, object] = {"architecture": architecture, "os": "linux", "config": {"User": architecture}}
        if variant:
            config["variant"] = variant
        layer = make_tar([file("arch", architecture.encode())])
        path = tmp_path / f"{architecture}.tar"
        _write_archive(path, config, layer)
        registry.fill(f"docker-archive:{path}", f"multi:{architecture}", "--format=oci")
        raw = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/multi:{architecture}"],
            capture_output=True,
            check=True,
        ).stdout
        import hashlib

        platform = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}
        entries.append(
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}",
                "size": len(raw),
                "platform": platform,
            }
        )
    _put_index(registry, "multi", "all", entries)
    name = f"{registry.host}/multi:all"
    assert store.pull(name).config.user == "amd64"
    assert store.pull(name, platform="linux/arm64").config.user == "arm64"
    assert store.pull(name, platform="linux/arm/v7").config.user == "arm"
    assert store.resolve_image(name).config.user == "arm"  # type: ignore[union-attr]
    with pytest.raises(UnsupportedImage) as caught:
        store.pull(name, platform="linux/s390x")
    assert "linux/arm/v6" in caught.value.hint
    with pytest.raises(UnsupportedImage, match="for linux/arm64"):
        store.pull(f"{registry.host}/multi:arm64", platform="linux/amd64")
    assert store.fsck(deep=True) == []


def _write_archive(path: Path, config: dict[str, object], layer: bytes) -> None:
    from .tars import digest

    config["rootfs"] = {"type": "layers", "diff_ids": [digest(layer)]}
    manifest = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"]}]
    entries = [file("layer.tar", layer), file("c.json", json.dumps(config).encode())]
    path.write_bytes(make_tar([*entries, file("manifest.json", json.dumps(manifest).encode())]))


def _put_index(registry: Registry, name: str, tag: str, entries: list[dict[str, object]]) -> None:
    import http.client

    kind = "application/vnd.oci.image.index.v1+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    connection = http.client.HTTPConnection(registry.host)
    connection.request("PUT", f"/v2/{name}/manifests/{tag}", body=body, headers={"Content-Type": kind})
    response = connection.getresponse()
    assert response.status == 201, response.read()
    connection.close()


# -- what can go wrong -----------------------------------------------------------------------------------------------


def test_missing(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    for name in ("web:2", "other:1"):
        with pytest.raises(ImageMissing) as caught:
            store.pull(f"{registry.host}/{name}")
        assert name in caught.value.message
        assert caught.value.hint
    assert store.list_images() == ()


def test_refused_connection(store: ImageStore) -> None:
    host = f"127.0.0.1:{find_port()}"
    with pytest.raises(RegistryUnreachable, match="connection refused") as caught:
        store.pull(f"{host}/web:1")
    assert caught.value.hint


def test_unknown_host(store: ImageStore) -> None:
    with pytest.raises(RegistryUnreachable, match="cannot be reached"):
        store.pull("registry.invalid/web:1")


def test_resumes_a_broken_transfer(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    with run_proxy(registry.host) as proxy:
        proxy.cut = 1 << 20
        image = store.pull(f"{proxy.host}/web:1")
        ranges = [headers.get("Range") for _, headers in proxy.blob_requests()]
    assert image.id == sample[1]
    assert any(one and one.startswith("bytes=1048576-") for one in ranges)
    assert store.fsck(deep=True) == []


def test_resumes_without_ranges(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    with run_proxy(registry.host) as proxy:
        proxy.ignore_range = True
        proxy.cut = 1 << 20

        def heal(_: object) -> bool:
            if any("Range" in headers for _, headers in proxy.blob_requests()):
                proxy.cut = 0
            return False

        proxy.before = heal
        assert store.pull(f"{proxy.host}/web:1").id == sample[1]
    assert store.fsck(deep=True) == []


def test_refuses_damaged_content(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    with run_proxy(registry.host) as proxy:
        proxy.flip = True
        with pytest.raises(InvalidImage):
            store.pull(f"{proxy.host}/web:1")
    assert store.list_images() == ()
    assert os.listdir(store.root / "work") == []
    assert store.fsck(deep=True) == []


def test_waits_when_it_is_told_to(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    with run_proxy(registry.host) as proxy:

        def busy(handler: object) -> bool:
            path = handler.path  # type: ignore[attr-defined]
            if proxy.counts[path] == 1:
                status, headers = (429, {"Retry-After": "0"}) if "/blobs/" in path else (503, {})
                return answer(handler, status, headers, b"later")  # type: ignore[arg-type]
            return False

        proxy.before = busy
        assert store.pull(f"{proxy.host}/web:1").id == sample[1]


def test_a_long_wait_is_told(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    seen: list[PullProgress] = []
    with run_proxy(registry.host) as proxy:
        proxy.before = lambda handler: proxy.counts[handler.path] == 1 and answer(handler, 429, {"Retry-After": "1"})
        with pytest.raises(TransferCancelled):
            store.pull(f"{proxy.host}/web:1", progress=seen.append, cancel=lambda: bool(seen))
        assert [(one.layer, one.status) for one in seen] == [("", f"{proxy.host} is busy and asks to wait 1s")]


def test_rate_limit(store: ImageStore, registry: Registry) -> None:
    with run_proxy(registry.host) as proxy:
        proxy.before = lambda handler: answer(handler, 429, {"Retry-After": "3600"})
        with pytest.raises(RateLimited) as caught:
            store.pull(f"{proxy.host}/web:1")
    assert "3600 seconds" in caught.value.hint


def test_broken_registry(store: ImageStore, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "compute_delay", lambda attempt: 0.0)
    with run_proxy(registry.host) as proxy:
        proxy.before = lambda handler: answer(handler, 500, {}, b"out of order")
        with pytest.raises(RegistryFault, match="out of order"):
            store.pull(f"{proxy.host}/web:1")
        assert len(proxy.seen) == transport.ATTEMPTS


def test_cancel(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    stop = threading.Event()

    def progress(step: PullProgress) -> None:
        if step.status == "downloading" and step.current > 1 << 20:
            stop.set()

    with pytest.raises(TransferCancelled):
        store.pull(f"{registry.host}/web:1", progress=progress, cancel=stop.is_set)
    assert store.list_images() == ()
    assert os.listdir(store.root / "work") == []
    assert store.pull(f"{registry.host}/web:1").id == sample[1]


def test_cancel_while_the_registry_is_silent(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    stop, asked = threading.Event(), threading.Event()
    with run_proxy(registry.host) as proxy:

        def hang(handler: object) -> bool:
            config = sample[1]
            if "/blobs/" in handler.path and config not in handler.path:  # type: ignore[attr-defined]
                asked.set()
                stop.wait(30)
                time.sleep(0.3)
            return False

        proxy.before = hang

        def cancel_once_asked() -> None:
            asked.wait(30)
            stop.set()

        threading.Thread(target=cancel_once_asked, daemon=True).start()
        with pytest.raises(TransferCancelled):
            store.pull(f"{proxy.host}/web:1", cancel=stop.is_set)
    assert store.fsck() == []


def test_cancel_before_the_registry_has_said_a_word(store: ImageStore) -> None:
    """It takes the connection and goes quiet: whether it speaks TLS is never known."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def cancel_once_called() -> None:
            caller, _address = silent.accept()
            with caller:
                caller.recv(1)
                stop.set()
                # Until the other side has given up; in vain it would wait for as long as a connection may take.
                caller.settimeout(10)
                while caller.recv(4096):
                    pass
                given_up.set()

        given_up = threading.Event()
        threading.Thread(target=cancel_once_called, daemon=True).start()
        with pytest.raises(TransferCancelled):
            store.pull(f"127.0.0.1:{silent.getsockname()[1]}/web:1", cancel=stop.is_set)
        assert given_up.wait(10)


@pytest.mark.parametrize("reserve", [0, 64 << 20])
def test_full_disk(
    registry: Registry,
    sample: tuple[str, str],
    tmp_path: Path,
    clean_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    reserve: int,
) -> None:
    monkeypatch.setattr(unpack, "_SPACE_RESERVE", reserve)
    registry.fill(sample[0], "web:1")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], check=True)
    try:
        store = ImageStore(Layout(small, tmp_path / "run"))
        with pytest.raises(DiskFull) as caught:
            store.pull(f"{registry.host}/web:1")
        assert caught.value.hint
        assert store.list_images() == ()
        assert os.listdir(store.root / "work") == []
        assert store.fsck(deep=True) == []
        subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
        assert store.pull(f"{registry.host}/web:1").id == sample[1]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_through_a_proxy(
    store: ImageStore, registry: Registry, sample: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.fill(sample[0], "web:1")
    Path(os.environ["STACK_REGISTRIES_CONF"]).write_text(
        '[[registry]]\nlocation="registry.invalid:5000"\ninsecure=true\n'
    )
    with run_proxy(registry.host) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:secret@{proxy.host}")
        assert store.pull("registry.invalid:5000/web:1").id == sample[1]
        assert all(path.startswith("http://registry.invalid:5000/v2/") for _, path, _ in proxy.seen)
        assert all(headers["Proxy-Authorization"] == "Basic bWU6c2VjcmV0" for _, _, headers in proxy.seen)


# -- credentials and certificates ------------------------------------------------------------------------------------


def test_basic(store: ImageStore, locked: Registry, sample: tuple[str, str]) -> None:
    locked.fill(sample[0], "web:1")
    name = f"{locked.host}/web:1"
    with pytest.raises(Unauthorized) as caught:
        store.pull(name)
    assert "stack image login" in caught.value.hint
    write_login(locked.host, "u", "wrong")
    with pytest.raises(Unauthorized, match="stored credentials"):
        store.pull(name)
    write_login(f"https://{locked.host}/v2/", "u", "p w")
    assert store.pull(name).id == sample[1]


def test_credential_helper(
    store: ImageStore, locked: Registry, sample: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked.fill(sample[0], "web:1")
    name = f"{locked.host}/web:1"
    config = Path(os.environ["HOME"]) / ".docker/config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"credHelpers": {locked.host: "absent-one"}}))
    with pytest.raises(CredentialFailure, match="docker-credential-absent-one"):
        store.pull(name)
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        "#!/bin/sh\nread host\n"
        f'[ "$1 $host" = "get {locked.host}" ] || {{ echo credentials not found in native keychain; exit 1; }}\n'
        'echo \'{"ServerURL": "", "Username": "u", "Secret": "p w"}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    config.write_text(json.dumps({"credsStore": "test"}))
    assert store.pull(name).id == sample[1]


@pytest.mark.parametrize("user", ["", "u"])
def test_bearer(store: ImageStore, registry: Registry, sample: tuple[str, str], user: str) -> None:
    registry.fill(sample[0], "web:1")
    with run_proxy(registry.host) as proxy:
        queries = require_bearer(proxy, user, "secret")
        if user:
            with pytest.raises(Unauthorized):
                store.pull(f"{proxy.host}/web:1")
            queries.clear()
            write_login(proxy.host, user, "secret")
        assert store.pull(f"{proxy.host}/web:1").id == sample[1]
    assert len(queries) == 1
    assert queries[0]["scope"] == ["repository:web:pull"]
    assert queries[0]["service"] == ["test"]


def test_identity_token(
    store: ImageStore, registry: Registry, sample: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a login with single sign-on leaves, in a file or with a helper: a token that is good for others."""
    registry.fill(sample[0], "web:1")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    with run_proxy(registry.host) as proxy:
        queries = require_bearer(proxy, "u", "unknown")
        (folder / "config.json").write_text(json.dumps({"auths": {proxy.host: {"identitytoken": "identity of u"}}}))
        assert store.pull(f"{proxy.host}/web:1").id == sample[1]
        assert queries[0]["scope"] == ["repository:web:pull"]
        helper = tmp_path / "docker-credential-sso"
        helper.write_text('#!/bin/sh\necho \'{"Username": "<token>", "Secret": "identity of u"}\'\n')
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        (folder / "config.json").write_text(json.dumps({"credHelpers": {proxy.host: "sso"}}))
        assert fresh_store(tmp_path).pull(f"{proxy.host}/web:1").id == sample[1]
        (folder / "config.json").write_text(json.dumps({"auths": {proxy.host: {"identitytoken": "stale"}}}))
        with pytest.raises(Unauthorized, match="with the stored credentials"):
            fresh_store(tmp_path, "third").pull(f"{proxy.host}/web:1")


def test_tokens_are_renewed(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    """A token may run out while a transfer is under way."""
    registry.fill(sample[0], "web:1")
    with run_proxy(registry.host) as proxy:
        queries = require_bearer(proxy, "", "")
        serve, refused = proxy.before, []

        def forget(handler: object) -> bool:
            if "/blobs/" in handler.path and not refused:  # type: ignore[attr-defined]
                refused.append(handler.headers.get("Authorization"))  # type: ignore[attr-defined]
                handler.headers.replace_header("Authorization", "Bearer expired")  # type: ignore[attr-defined]
            return serve(handler)  # type: ignore[arg-type]

        proxy.before = forget
        assert store.pull(f"{proxy.host}/web:1").id == sample[1]
    assert len(queries) == 2


@pytest.fixture
def secure(run_registry: Callable[..., Registry], tmp_path: Path) -> tuple[Registry, Path]:
    """A registry with a certificate of an authority of its own; and that authority's certificate."""
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt",
        "req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout tls.key -out tls.csr",
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out tls.crt",
    ):
        (tmp_path / "san").write_text("subjectAltName=IP:127.0.0.1\n")
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    registry = run_registry(http=f"  tls: {{certificate: {tmp_path}/tls.crt, key: {tmp_path}/tls.key}}\n")
    return registry, tmp_path / "ca.crt"


def test_tls(
    store: ImageStore,
    secure: tuple[Registry, Path],
    sample: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, authority = secure
    registry.fill(sample[0], "web:1")
    name = f"{registry.host}/web:1"
    with pytest.raises(TlsFailure) as caught:
        store.pull(name)
    assert f"certs.d/{registry.host}" in caught.value.hint
    certificates = tmp_path / "certs" / registry.host
    certificates.mkdir(parents=True)
    (certificates / "ca.crt").write_bytes(authority.read_bytes())
    monkeypatch.setenv("STACK_CERTS_DIR", str(tmp_path / "certs"))
    assert fresh_store(tmp_path, "one").pull(name).id == sample[1]
    monkeypatch.delenv("STACK_CERTS_DIR")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert fresh_store(tmp_path, "two").pull(name).id == sample[1]
    monkeypatch.delenv("SSL_CERT_FILE")
    Path(os.environ["STACK_REGISTRIES_CONF"]).write_text(f'[[registry]]\nlocation="{registry.host}"\ninsecure=true\n')
    assert fresh_store(tmp_path, "three").pull(name).id == sample[1]


def test_mirrors(
    store: ImageStore,
    registry: Registry,
    run_registry: Callable[..., Registry],
    sample: tuple[str, str],
    tmp_path: Path,
) -> None:
    mirror = run_registry()
    mirror.fill(sample[0], "cache/team/web:1")
    registry.fill(sample[0], "elsewhere/only:1")
    Path(os.environ["STACK_REGISTRIES_CONF"]).write_text(
        f"""
        [[registry]]
        prefix = "registry.invalid"
        location = "{registry.host}/elsewhere"
        [[registry.mirror]]
        location = "127.0.0.1:{find_port()}"
        [[registry.mirror]]
        location = "{mirror.host}/cache"
        [[registry]]
        prefix = "registry.invalid/secret"
        blocked = true
        """
    )
    image = store.pull("registry.invalid/team/web:1")
    assert image.references == ("registry.invalid/team/web:1",)
    assert store.pull("registry.invalid/only:1").id == image.id
    with pytest.raises(ImageMissing):
        store.pull("registry.invalid/absent:1")
    with pytest.raises(UnsupportedImage, match="blocked"):
        store.pull("registry.invalid/secret/web:1")


# -- several processes ------------------------------------------------------------------------------------------------

_PULL = """
import sys
from pathlib import Path
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout
print(ImageStore(Layout(Path(sys.argv[1]), Path("/nonexistent"))).pull(sys.argv[2]).id)
"""


def start_pull(store: ImageStore, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PULL, str(store.root.parent), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_download_once(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1")
    with run_proxy(registry.host) as proxy:
        pulls = [start_pull(store, f"{proxy.host}/web:1") for _ in range(3)]
        for one in pulls:
            out, err = one.communicate(timeout=60)
            assert out.strip() == sample[1], err
        fetched = [path for path, _ in proxy.blob_requests() if sample[1] not in path]
    assert len(fetched) == len(set(fetched)) == 3
    assert store.fsck(deep=True) == []

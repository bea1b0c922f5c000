"""Which places are asked for an image: registries.conf in all its forms, Docker's daemon.json, mirrors that fail."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.engines.native.images import proxies, registries
from orchestrator.engines.native.images.failures import RegistryUnreachable, UnsupportedImage
from orchestrator.engines.native.images.reference import parse_reference
from orchestrator.engines.native.images.registries import Endpoint, RegistrySettings, load_registry_settings
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.errors import UsageError

from .faulty import answer, run_proxy
from .handmade import put_image
from .loopback import Registry, find_port
from .tars import file, make_tar


def write_settings(text: str) -> RegistrySettings:
    Path(os.environ["STACK_REGISTRIES_CONF"]).write_text(text)
    return load_registry_settings()


def ask(settings: RegistrySettings, name: str) -> list[str]:
    return [one.name for one in settings.resolve_endpoints(parse_reference(name))]


@pytest.mark.usefixtures("clean_environment")
def test_rules() -> None:
    settings = write_settings(
        """
        unqualified-search-registries = ["ignored.example"]
        [[registry]]
        prefix = "docker.io"
        location = "mirror.example/hub"
        [[registry]]
        prefix = "old.example/team"
        location = "new.example:5000/moved/here"
        insecure = true
        [[registry]]
        prefix = "old.example/team/web"
        location = "special.example/x/web"
        [[registry]]
        prefix = "*.wild.example"
        [[registry.mirror]]
        location = "cache.example/wild"
        [[registry]]
        location = "plain.example"
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"
        insecure = true
        [aliases]
        tool = "elsewhere.example/us/tool"
        "team/tool" = "old.example/team/tool"
        """
    )
    assert ask(settings, "web") == ["mirror.example/hub/library/web"]
    assert ask(settings, "old.example/team/a/b:1") == ["new.example:5000/moved/here/a/b"]
    assert settings.resolve_endpoints(parse_reference("old.example/team/a"))[0].plain
    assert ask(settings, "old.example/team/web") == ["special.example/x/web"]
    assert ask(settings, "old.example/teams/x") == ["old.example/teams/x"]
    assert ask(settings, "a.wild.example/x/y") == ["cache.example/wild/x/y", "a.wild.example/x/y"]
    assert ask(settings, "wild.example/x") == ["wild.example/x"]
    assert ask(settings, "tool:3") == ["elsewhere.example/us/tool"]
    assert ask(settings, "team/tool") == ["new.example:5000/moved/here/tool"]
    digests, tags, own = settings.resolve_endpoints(parse_reference("plain.example/x"))
    assert digests == Endpoint("digests.example", "x", mirror=True, digest_only=True)
    assert tags == Endpoint("tags.example", "x", plain=True, mirror=True, tag_only=True)
    assert own == Endpoint("plain.example", "x")


@pytest.mark.usefixtures("clean_environment")
def test_files_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """containers' user file, its drop-ins, Docker's daemon.json, our own: the later ones win."""
    monkeypatch.delenv("STACK_REGISTRIES_CONF")
    config = Path(os.environ["HOME"]) / ".config"
    for name, text in (
        (
            "containers/registries.conf",
            '[[registry]]\nlocation="a.example"\ninsecure=true\n[aliases]\nx="no.example/x"\n',
        ),
        ("containers/registries.conf.d/50-b.conf", '[[registry]]\nlocation="b.example"\nblocked=true\n'),
        ("stack/registries.conf", '[[registry]]\nprefix="a.example"\nlocation="c.example"\n'),
    ):
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    daemon = tmp_path / "daemon.json"
    daemon.write_text(
        json.dumps(
            {"insecure-registries": ["10.1.0.0/16", "d.example:5000"], "registry-mirrors": ["http://127.0.0.1:5555"]}
        )
    )
    monkeypatch.setattr(registries, "_DAEMON", daemon)
    settings = load_registry_settings()
    assert ask(settings, "a.example/x") == ["c.example/x"]
    with pytest.raises(UnsupportedImage, match="blocked"):
        ask(settings, "b.example/x")
    assert ask(settings, "x") == ["127.0.0.1:5555/library/x", "registry-1.docker.io/library/x"]
    assert settings.resolve_endpoints(parse_reference("10.1.2.3:5000/x"))[0].plain
    assert settings.resolve_endpoints(parse_reference("d.example:5000/x"))[0].plain
    assert not settings.resolve_endpoints(parse_reference("d.example/x"))[0].plain


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[registry", "not valid TOML"),
        ("[[registry]]\ninsecure = true\n", "neither 'prefix' nor 'location'"),
        ("registry = 3\n", "list of tables"),
        ('[[registry]]\nlocation="a"\n[[registry.mirror]]\ninsecure=true\n', "no 'location'"),
        ('[aliases]\nx = "Not A Name"\n', "alias x"),
        ("[aliases]\nx = 3\n", "table of names"),
    ],
)
def test_mistakes_are_told(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        write_settings(text)
    assert "registries.conf" in caught.value.message


def test_a_mirror_that_fails_on_the_way(
    store: ImageStore, registry: Registry, run_registry: Callable[..., Registry]
) -> None:
    """What the first mirror did not give comes from the next place; what it gave is not fetched again."""
    mirror = run_registry()
    for one in (mirror, registry):
        put_image(one, "team/web", "1", make_tar([file("f", b"1")]))
    with run_proxy(mirror.host) as broken:
        broken.before = lambda handler: "/blobs/" in handler.path and answer(handler, 404, {})
        write_settings(
            f"""
            [[registry]]
            prefix = "registry.invalid"
            location = "{registry.host}"
            [[registry.mirror]]
            location = "127.0.0.1:{find_port()}"
            [[registry.mirror]]
            location = "{broken.host}"
            """
        )
        image = store.pull("registry.invalid/team/web:1")
    assert image.references == ("registry.invalid/team/web:1",)
    assert store.fsck(deep=True) == []


def test_an_unchanged_image_is_not_fetched_again(store: ImageStore, registry: Registry) -> None:
    """A HEAD is enough, which registries with rate limits do not count."""
    put_image(registry, "web", "1", make_tar([file("f", b"1")]))
    with run_proxy(registry.host) as proxy:
        name = f"{proxy.host}/web:1"
        first = store.pull(name)
        proxy.seen.clear()
        assert store.pull(name) == first
        assert [method for method, _, _ in proxy.seen if method != "HEAD"] == []
        proxy.seen.clear()
        assert store.pull(first.repo_digests[0]).id == first.id
        assert proxy.seen == []
        put_image(registry, "web", "1", make_tar([file("f", b"2")]))
        assert store.pull(name).id != first.id


@pytest.mark.usefixtures("clean_environment")
def test_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv(
        "NO_PROXY", "a.example, .b.example,*.c.example,10.0.0.0/8,192.168.1.1,d.example:5000,::1,[fd00::1]:5000"
    )
    for host in (
        *("a.example", "x.a.example:5000", "b.example", "x.b.example", "x.c.example", "10.9.8.7:5000"),
        *("192.168.1.1", "d.example:5000", "[::1]:5000", "[fd00::1]:5000", "127.0.0.1:5000", "localhost"),
    ):
        assert proxies.find_proxy("https", host) is None, host
    for host in ("e.example", "aa.example", "11.0.0.1", "d.example", "d.example:5001", "[fd00::1]"):
        assert str(proxies.find_proxy("https", host)) == "proxy.invalid:3128", host
    assert proxies.find_proxy("http", "e.example") is None
    monkeypatch.setenv("NO_PROXY", "*")
    assert proxies.find_proxy("https", "e.example") is None


def test_proxies_that_do_not_help(store: ImageStore, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "registry.invalid/web:1"
    for variable in ("https_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{find_port()}")
    with pytest.raises(RegistryUnreachable, match=r"the proxy 127\.0\.0\.1:.* connection refused") as caught:
        store.pull(name)
    assert "HTTPS_PROXY" in caught.value.hint
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(RegistryUnreachable, match="socks5"):
        store.pull(name)
    with run_proxy(registry.host) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        with pytest.raises(RegistryUnreachable, match="does not connect to the registry"):
            store.pull(name)
        write_settings('[[registry]]\nlocation="registry.invalid"\ninsecure=true\n')
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        proxy.before = lambda handler: answer(handler, 407, {})
        with pytest.raises(RegistryUnreachable, match="wants a login"):
            ImageStore(_layout_of(store)).pull(name)


def _layout_of(store: ImageStore) -> object:
    from orchestrator.engines.native.layout import Layout

    return Layout(store.root.parent, store.root.parent / "run")

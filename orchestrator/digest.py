"""The configuration digest that decides "diverged", and the field-by-field difference that explains it.

What a container is made from is the service's canonical subtree without the fields below, plus what stands outside that
subtree and still shapes the container: the engine's names of its networks and volumes, and what its secrets and configs
hold. The image's digest is not part of it; it is compared on its own, because it changes without any edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.record import Record

try:
    # hashlib loads OpenSSL, which every command would pay for; this is the same function without it.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

if TYPE_CHECKING:
    from orchestrator.model import FileSource, Service, Stack

_NOTHING: Mapping[str, Any] = MappingProxyType({})

IGNORED_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "depends_on": "orders the starts of containers, leaves no trace in them",
        "profiles": "selects services",
        "scale": "how many there are, not what each is",
        "build": "how the image comes about; its result is compared by digest",
        "pull_policy": "when the image is fetched; its result is compared by digest",
        "pull_refresh_after": "when the image is fetched; its result is compared by digest",
        "develop": "what `watch` does",
        "attach": "whose output the terminal shows",
    }
)
"""Fields of a service that do not shape its containers, each with the reason."""

IGNORED_DEPLOY_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "replicas": "how many there are, not what each is",
        "mode": "how many there are, not what each is",
        "update_config": "the order of an update",
        "rollback_config": "the order of an update",
        "placement": "chooses a node, and there is one",
    }
)
"""The same below ``deploy``. ``restart``, ``healthcheck`` and the hooks do count, as they do for Compose: an engine may
have handed them to something that outlives the supervisor."""

_SECRET_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "apikey",
    "api_key",
    "private_key",
)
_SHOWN = 60
_UNSET = object()


class FieldChange(Record):
    """One field that differs: `path` in dots and brackets; `old` and `new` as text, empty where it is not set."""

    path: str
    old: str
    new: str

    def render(self) -> str:
        """Render as ``environment.DEBUG: 0 -> 1``."""
        if self.old == self.new:
            return f"{self.path}: changed"
        return f"{self.path}: {self.old or 'not set'} -> {self.new or 'not set'}"


def config_hash(service: Service, stack: Stack, file_digests: Mapping[str, str] = _NOTHING) -> str:
    """Return a digest (64 hex digits) of everything that shapes the service's containers, except their image.

    `file_digests` maps the absolute path of a secret's or config's file to a digest of what is in it; a file that is
    not in there counts by its path alone.
    """
    outside = {
        "networks": {key: stack.networks[key].name for key in service.networks if key in stack.networks},
        "volumes": {
            one.source: stack.volumes[one.source].name
            for one in service.volumes
            if one.type == "volume" and one.source is not None and one.source in stack.volumes
        },
        "secrets": _digest_files(_list_sources(service, "secrets"), stack.secrets, file_digests),
        "configs": _digest_files(_list_sources(service, "configs"), stack.configs, file_digests),
    }
    text: list[str] = []
    _write(shaping_config(service.config), text)
    _write(outside, text)
    return hash_text("".join(text))


def _list_sources(service: Service, section: str) -> list[str]:
    """The secrets or configs that a service's containers have, and those of its ``pre_start`` containers."""
    hooks: Iterable[Mapping[str, Any]] = service.config.get("pre_start") or ()
    return [
        *(one.source for one in getattr(service, section)),
        *(one.get("source", "") for hook in hooks for one in hook.get(section) or ()),
    ]


def shaping_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a canonical service subtree without the fields that do not shape its containers."""
    kept = {key: value for key, value in config.items() if key not in IGNORED_FIELDS}
    deploy = kept.get("deploy")
    if isinstance(deploy, Mapping):
        rest = {key: value for key, value in deploy.items() if key not in IGNORED_DEPLOY_FIELDS}
        if rest:
            kept["deploy"] = rest
        else:
            del kept["deploy"]
    return kept


def diff_config(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """Return every field in which two canonical subtrees differ, in order of paths; secret-looking values hidden."""
    return tuple(_differences("", dict(old), dict(new)))


def diff_service(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """:func:`diff_config` of two service subtrees, without the fields that do not shape containers."""
    return diff_config(shaping_config(old), shaping_config(new))


def diff_resource(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """:func:`diff_config` of two networks or volumes: names aside (they are matched by name), and an empty value, a
    false one and an absent one being the same."""
    return diff_config(_prune(old), _prune(new))


def _prune(value: Mapping[str, Any], *, top: bool = True) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, item in value.items():
        if top and key in ("name", "external"):
            continue
        plain = _prune(item, top=False) if isinstance(item, Mapping) else item
        if plain not in (None, False, "", {}, [], ()):
            kept[key] = plain
    return kept


def _digest_files(
    keys: Iterable[str], sources: Mapping[str, FileSource], file_digests: Mapping[str, str]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in keys:
        source = sources.get(key)
        if source is None:
            continue
        held = source.value if source.value is not None else source.content
        if held is not None:
            found[key] = ["holds", hash_text(held)]
        elif source.file is not None:
            found[key] = ["file", source.file, file_digests.get(source.file, "")]
        else:
            found[key] = ["named", source.name]
    return found


def hash_text(text: str) -> str:
    """64 hex digits that stand for a text (BLAKE2b)."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def _write(value: Any, text: list[str]) -> None:
    # Every string carries its length, so that no two trees have one text. JSON's encoder refuses mapping proxies.
    if isinstance(value, str):
        text.append(f"s{len(value)}:{value}")
    elif isinstance(value, bool) or value is None:
        text.append({True: "t", False: "f", None: "n"}[value])
    elif isinstance(value, float) and not value.is_integer():
        text.append(f"r{value!r};")
    elif isinstance(value, (int, float)):
        text.append(f"i{int(value)};")
    elif isinstance(value, Mapping):
        text.append("d")
        for key in sorted(value):
            _write(key, text)
            _write(value[key], text)
        text.append("e")
    else:
        text.append("l")
        for item in value:
            _write(item, text)
        text.append("e")


def _differences(path: str, old: Any, new: Any) -> Iterator[FieldChange]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(f"{path}.{key}" if path else str(key), old.get(key, _UNSET), new.get(key, _UNSET))
    elif _is_sequence(old) and _is_sequence(new) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{index}]", before, after)
    elif old is _UNSET and isinstance(new, Mapping) and new:
        yield from _differences(path, {}, new)
    elif new is _UNSET and isinstance(old, Mapping) and old:
        yield from _differences(path, old, {})
    elif old is _UNSET or new is _UNSET or _plain(old) != _plain(new):
        hidden = _is_secret(path)
        yield FieldChange(path=path, old="" if hidden else _show(old), new="" if hidden else _show(new))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if _is_sequence(value) else value


def _is_secret(path: str) -> bool:
    # Only where values are the user's own; `secrets[0].source` is a name that helps.
    if not path.startswith(("environment.", "labels.", "annotations.", "build.args.")):
        return False
    return any(word in path.lower() for word in _SECRET_WORDS)


def _show(value: Any) -> str:
    if value is _UNSET:
        return ""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {_show(value[key])}" for key in sorted(value)) + "}"
    elif _is_sequence(value):
        text = "[" + ", ".join(_show(item) for item in value) + "]"
    else:
        from orchestrator.addresses import hide_password

        text = hide_password(str(value)) or '""'
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."

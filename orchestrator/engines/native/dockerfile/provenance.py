"""The provenance of an image: what it was built from, how and when, as a predicate of SLSA 1.0.

``min`` tells the images and addresses that went in, the Dockerfile's name, the platform and the times; ``max`` also the
values of build arguments and labels, and every step. Secrets and agents are named, never shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from orchestrator import __version__
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import StageSteps
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.engines.native.images.image import Image

MODES: Final = ("min", "max")
_BUILD_TYPE: Final = "urn:stack:dockerfile:1"
_FIELDS: Final = ("type", "mode", "disabled", "version")


def parse_provenance(text: str) -> str:
    """What ``--provenance`` and ``build.provenance`` ask for: ``min``, ``max``, or nothing.

    A truth value, or ``mode=min|max`` and ``disabled=true`` in a comma list. Raises UsageError.
    """
    word = text.strip().lower()
    if word in ("", "false", "0", "f"):
        return ""
    if word in ("true", "1", "t"):
        return "min"
    fields: dict[str, str] = {}
    for part in word.split(","):
        name, equals, value = part.partition("=")
        if name not in _FIELDS or not equals:
            raise UsageError(f"provenance: cannot read {part!r}", hint="true, false, mode=min or mode=max")
        fields[name] = value
    if fields.get("type", "provenance") != "provenance":
        raise UsageError(f"provenance: nothing of the type {fields['type']!r} is attested", hint="type=provenance")
    if fields.get("disabled") in ("true", "1"):
        return ""
    mode = fields.get("mode", "min")
    if mode not in MODES:
        raise UsageError(f"provenance: there is no mode {mode!r}", hint="min or max")
    if fields.get("version", "v1") != "v1":
        raise UsageError(f"provenance: the version {fields['version']} is not written", hint="version=v1")
    return mode


def render_provenance(
    request: BuildRequest,
    stages: Mapping[int, StageSteps],
    images: Iterable[tuple[str, Image]],
    platform: str,
    dockerfile: str,
    began: float,
) -> dict[str, Any]:
    """The predicate. `images` are those that went in by name, `began` is in seconds since the epoch."""
    epoch = request.source_date_epoch
    whole = request.provenance == "max"
    parameters: dict[str, Any] = {
        "configSource": {"path": dockerfile},
        "request": {
            "frontend": "dockerfile.v0",
            "args": {"target": request.target} if request.target else {},
            "secrets": [{"id": one.id} for one in request.secrets],
            "ssh": [{"id": one.id} for one in request.ssh],
        },
    }
    internal: dict[str, Any] = {"builderPlatform": platform}
    if whole:
        parameters["request"]["args"] |= {f"build-arg:{name}": value for name, value in sorted(request.args.items())}
        parameters["request"]["args"] |= {f"label:{name}": value for name, value in sorted(request.labels.items())}
        internal["buildConfig"] = {
            "stages": [
                {"name": one.shown, "platform": one.platform, "steps": [step.text for step in one.steps]}
                for _, one in sorted(stages.items())
            ]
        }
    return {
        "buildDefinition": {
            "buildType": _BUILD_TYPE,
            "externalParameters": parameters,
            "internalParameters": internal,
            "resolvedDependencies": [*_list_images(images), *_list_addresses(stages)],
        },
        "runDetails": {
            "builder": {"id": f"urn:stack:builder:{__version__}"},
            "metadata": {
                "startedOn": _render_time(began if epoch is None else epoch),
                "finishedOn": _render_time(time.time() if epoch is None else epoch),
            },
        },
    }


def _list_images(images: Iterable[tuple[str, Image]]) -> list[dict[str, Any]]:
    from urllib.parse import quote

    from orchestrator.engines.native.images.manifest import OCI_CONFIG
    from orchestrator.engines.native.images.reference import is_digest, parse_reference

    found = []
    for name, image in sorted(images, key=lambda one: one[0]):
        where = f"?platform={quote(image.platform, safe='')}" if image.platform else ""
        canonical = "" if is_digest(name) else str(parse_reference(name))
        repository = canonical.partition("@")[0].rpartition(":")[0]
        pinned = next((one for one in image.repo_digests if repository and one.startswith(f"{repository}@")), "")
        uri = f"pkg:docker/{quote(canonical or name, safe='/@:')}{where}"
        if pinned:
            found.append({"uri": uri, "digest": {"sha256": pinned.rpartition("sha256:")[2]}})
        else:
            # It never came from a registry: there is no manifest to name, but its configuration.
            digest = {"sha256": image.id.removeprefix("sha256:")}
            found.append({"uri": uri, "digest": digest, "mediaType": OCI_CONFIG})
    return found


def _list_addresses(stages: Mapping[int, StageSteps]) -> list[dict[str, Any]]:
    from orchestrator.addresses import hide_password
    from orchestrator.engines.native.dockerfile.front.steps import CopyStep
    from orchestrator.engines.native.dockerfile.front.values import is_remote

    found: dict[str, dict[str, Any]] = {}
    for step in (step for _, one in sorted(stages.items()) for step in one.steps):
        for source in step.sources if isinstance(step, CopyStep) else ():
            if is_remote(source):
                sum_ = (step.checksum or "") if isinstance(step, CopyStep) else ""
                known = {"digest": {"sha256": sum_.removeprefix("sha256:")}} if sum_.startswith("sha256:") else {}
                found[source] = {"uri": hide_password(source), **known}
    return list(found.values())


def _render_time(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))

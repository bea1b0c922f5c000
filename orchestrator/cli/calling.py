"""``image build --call``: what a Dockerfile says, on the screen or as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OperationFailed, UsageError

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.errors import Diagnostic

CALLS = ("build", "check", "outline", "targets")


def read_call(text: str) -> tuple[str, bool]:
    """The call in ``NAME[,format=text|json]``, and whether JSON is wanted. Raises UsageError."""
    name, *rest = text.split(",")
    name = {"lint": "check"}.get(name, name)
    if name not in CALLS:
        raise UsageError(f"--call: there is no {name!r}", hint=f"one of {', '.join(CALLS)}")
    unknown = [one for one in rest if one not in ("format=json", "format=text")]
    if unknown:
        raise UsageError(f"--call: cannot read {unknown[0]!r}", hint="write format=json")
    return name, "format=json" in rest


def answer_call(request: BuildRequest, name: str, *, as_json: bool) -> None:
    """Answer ``check``, ``outline`` or ``targets``. Raises OperationFailed where a check finds anything."""
    from orchestrator.engines.native.dockerfile.outline import list_targets, outline_target
    from orchestrator.engines.native.images.platform import detect_platform

    platform = str(detect_platform())
    if name == "check":
        _check(request, platform, as_json=as_json)
        return
    found = (outline_target if name == "outline" else list_targets)(request, platform)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write(_render_outline(found) if name == "outline" else _render_targets(found))


def _check(request: BuildRequest, platform: str, *, as_json: bool) -> None:
    if not as_json:
        from orchestrator.cli.checking import check_requests

        check_requests([request])
        return
    import base64

    from orchestrator.engines.native.dockerfile.checking import check_request, read_dockerfile

    found = check_request(request, platform)
    source = base64.b64encode(read_dockerfile(request)[0]).decode()
    faults = [one for one in found if one.severity == "error"]
    answer: dict[str, Any] = {"warnings": [_describe(one) for one in found if one not in faults], "sources": [source]}
    if faults:
        answer["buildError"] = {"message": faults[0].message, "location": _describe(faults[0]).get("location", {})}
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    if found:
        raise OperationFailed("")


def _describe(one: Diagnostic) -> dict[str, Any]:
    from orchestrator.engines.native.dockerfile.front.lint import CHECKS

    rules = {code: rule for rule, code in CHECKS.items()}
    found: dict[str, Any] = {"ruleName": rules.get(one.code, one.code), "detail": one.message}
    if one.hint:
        found["description"] = one.hint
    if one.location is not None:
        place = {"line": one.location.line}
        found["location"] = {"ranges": [{"start": place, "end": place}]}
    return found


def _render_targets(found: dict[str, Any]) -> str:
    from orchestrator.engines.native.dockerfile.outline import render_table

    rows = []
    for one in found["targets"]:
        shown = f"{one.get('name', '')} (default)" if one.get("default") else one.get("name", "<unnamed>")
        rows.append((shown.strip(), one.get("base", ""), one.get("description", "")))
    return render_table(("TARGET", "BASE", "DESCRIPTION"), rows)


def _render_outline(found: dict[str, Any]) -> str:
    from orchestrator.engines.native.dockerfile.outline import render_table

    parts = [render_table(("TARGET", "DESCRIPTION"), [(found.get("name", "(default)"), found.get("description", ""))])]
    if "args" in found:
        rows = [(one["name"], one.get("value", ""), one.get("description", "")) for one in found["args"]]
        parts.append(render_table(("BUILD ARG", "VALUE", "DESCRIPTION"), rows))
    for field, title in (("secrets", "SECRET"), ("ssh", "SSH")):
        if field in found:
            rows2 = [(one["name"], "true" if one.get("required") else "") for one in found[field]]
            parts.append(render_table((title, "REQUIRED"), rows2))
    return "\n".join(parts)

"""Bundles, without a container: each folder of tests/golden/bundle is an input.json and the config.json it becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engines.native.checks import check_service
from orchestrator.engines.native.host import CAPABILITIES
from orchestrator.engines.native.images.image import ImageConfig, parse_image_config
from orchestrator.engines.native.runtime import bundle
from orchestrator.engines.native.runtime.bundle import BundleSpec, plan_namespaces, render_bundle
from orchestrator.engines.native.runtime.cgroups import CgroupFacts
from orchestrator.engines.native.runtime.devices import DeviceNode
from orchestrator.engines.native.runtime.facts import HostFacts
from orchestrator.engines.native.runtime.seccomp import Filter
from orchestrator.engines.native.runtime.users import Identity
from orchestrator.errors import EngineError
from orchestrator.model import Logging, Resources, Service, Ulimit
from orchestrator.source import Location, SourceMap

GOLDEN = Path(__file__).parents[2] / "golden" / "bundle"

V2 = CgroupFacts(mode="v2", controllers=frozenset({"cpu", "cpuset", "io", "memory", "pids"}), swap=True)
V1 = CgroupFacts(
    mode="hybrid", controllers=frozenset({"cpu", "cpuset", "io", "memory", "pids", "devices", "freezer"}), swap=False
)


def make_facts(**changes: Any) -> HostFacts:
    values = {
        "cgroups": V2,
        "capabilities": frozenset(CAPABILITIES),
        "hard_limits": {"nofile": 1 << 20, "core": -1, "memlock": 8 << 20},
        "can_raise_limits": True,
        "processors": 4,
    }
    return HostFacts(**{**values, **changes})


def make_service(data: dict[str, Any]) -> Service:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    if "resources" in values:
        values["resources"] = Resources(**values["resources"])
    if "ulimits" in values:
        values["ulimits"] = {name: Ulimit(**limit) for name, limit in values["ulimits"].items()}
    return Service(name=values.pop("name", "web"), **values)


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()) if GOLDEN.exists() else [])
def test_golden(case: str, compare_golden: Callable[[Path, str], None]) -> None:
    given = json.loads((GOLDEN / case / "input.json").read_text())
    facts = dict(given.get("facts", {}))
    if "cgroups" in facts:
        facts["cgroups"] = V1 if facts["cgroups"] == "v1" else V2
    if "capabilities" in facts:
        facts["capabilities"] = frozenset(facts["capabilities"])
    made = make_facts(**facts)
    service = make_service(given["service"])
    identity = {key: tuple(value) if isinstance(value, list) else value for key, value in given.get("user", {}).items()}
    spec = BundleSpec(
        service=service,
        image=parse_image_config(given.get("image", {})),
        container_id="0123456789ab",
        rootfs="/run/stack/containers/0123456789ab/rootfs",
        hostname=service.hostname or "0123456789ab",
        facts=made,
        cgroups_path="/stack/0123456789ab",
        identity=Identity(**identity),
        namespaces=plan_namespaces(
            service, given.get("netns"), given.get("peers", {}), unified=made.cgroups.mode == "v2"
        ),
        mounts=tuple(given.get("mounts", ())),
        seccomp=Filter(profile={"defaultAction": "SCMP_ACT_ALLOW"}, bpf="BPF") if given.get("seccomp", True) else None,
        devices=tuple(DeviceNode(**one) for one in given.get("devices", ())),
        block_devices={key: tuple(value) for key, value in given.get("block_devices", {}).items()},
        init_path=given.get("init"),
        shm_path=given.get("shm"),
    )
    compare_golden(GOLDEN / case / "config.json", json.dumps(render_bundle(spec), indent=2, sort_keys=True) + "\n")
    found = check_service(service, made)
    text = "\n".join(one.render() for one in found)
    compare_golden(GOLDEN / case / "diagnostics.txt", f"{text}\n" if text else "")


@pytest.mark.parametrize(
    ("entrypoint", "command", "image_entrypoint", "image_cmd", "wanted"),
    [
        (None, None, ("e",), ("c",), ("e", "c")),
        (None, ("x",), ("e",), ("c",), ("e", "x")),
        (None, (), ("e",), ("c",), ("e", "c")),
        ((), (), ("e",), ("c",), ("c",)),
        (("y",), (), ("e",), ("c",), ("y",)),
        (("y",), None, ("e",), ("c",), ("y",)),
        (("y",), ("x",), ("e",), ("c",), ("y", "x")),
        ((), ("x",), ("e",), ("c",), ("x",)),
        (None, None, None, ("c",), ("c",)),
        ((), None, ("e",), ("c",), ("c",)),
    ],
)
def test_command_and_entrypoint(
    entrypoint: tuple[str, ...] | None,
    command: tuple[str, ...] | None,
    image_entrypoint: tuple[str, ...] | None,
    image_cmd: tuple[str, ...] | None,
    wanted: tuple[str, ...],
) -> None:
    service = Service(name="web", entrypoint=entrypoint, command=command)
    assert bundle.resolve_command(service, ImageConfig(entrypoint=image_entrypoint, cmd=image_cmd)) == wanted


def test_no_command_at_all() -> None:
    spec = BundleSpec(
        service=Service(name="web"),
        image=ImageConfig(),
        container_id="c",
        rootfs="/r",
        hostname="h",
        facts=make_facts(),
        cgroups_path="/stack/c",
    )
    with pytest.raises(EngineError) as caught:
        render_bundle(spec)
    assert "services.web.command" in caught.value.hint


def test_environment_rules() -> None:
    service = Service(name="web", environment={"A": "service", "GONE": None, "EMPTY": ""}, tty=True)
    image = ImageConfig(env=("A=image", "B=image", "GONE=1", "PATH=/opt/bin"))
    found = bundle.resolve_environment(service, image, "box", Identity(home="/home/web"))
    assert found == {
        "PATH": "/opt/bin",
        "HOSTNAME": "box",
        "TERM": "xterm",
        "A": "service",
        "B": "image",
        "EMPTY": "",
        "HOME": "/home/web",
    }
    own = Service(name="web", environment={"HOME": "/mine"})
    assert bundle.resolve_environment(own, ImageConfig(), "box", Identity())["HOME"] == "/mine"


def test_capability_rules() -> None:
    everything = frozenset(CAPABILITIES)

    def resolve(add: tuple[str, ...] = (), drop: tuple[str, ...] = (), have: frozenset[str] = everything) -> set[str]:
        return set(bundle.resolve_capabilities(Service(name="web", cap_add=add, cap_drop=drop), have))

    assert resolve() == set(bundle.DEFAULT_CAPABILITIES)
    assert resolve(add=("net_admin",)) == {*bundle.DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}
    assert resolve(drop=("CAP_CHOWN",)) == set(bundle.DEFAULT_CAPABILITIES) - {"CAP_CHOWN"}
    assert resolve(drop=("ALL",), add=("chown",)) == {"CAP_CHOWN"}
    assert resolve(add=("all",)) == set(everything)
    assert resolve(add=("ALL",), drop=("SYS_ADMIN",)) == set(everything) - {"CAP_SYS_ADMIN"}
    # What this process does not hold it cannot give.
    assert resolve(add=("ALL",), have=everything - {"CAP_SYS_RESOURCE"}) == set(everything) - {"CAP_SYS_RESOURCE"}


def located(*path: str | int) -> SourceMap:
    return SourceMap({("services", "web", *path): Location("compose.yaml", 7, 3)})


@pytest.mark.parametrize(
    ("service", "code", "path"),
    [
        (Service(name="web", cap_add=("NET_ADMN",)), "unknown-capability", ("cap_add", 0)),
        (Service(name="web", security_opt=("apparmor=mine",)), "unsupported", ("security_opt", 0)),
        (Service(name="web", ulimits={"nofiles": Ulimit(soft=1, hard=1)}), "unknown-ulimit", ("ulimits", "nofiles")),
        (Service(name="web", device_cgroup_rules=("x",)), "invalid-device-rule", ("device_cgroup_rules", 0)),
        (Service(name="web", sysctls={"kernel.panic": "1"}), "sysctl-not-namespaced", ("sysctls", "kernel.panic")),
        (
            Service(name="web", sysctls={"net.core.somaxconn": "1"}, network_mode="host"),
            "sysctl-not-namespaced",
            ("sysctls", "net.core.somaxconn"),
        ),
        (Service(name="web", logging=Logging(driver="splunk")), "unsupported", ("logging", "driver")),
    ],
)
def test_what_cannot_be_honoured_is_an_error_at_its_line(
    service: Service, code: str, path: tuple[str | int, ...]
) -> None:
    found = check_service(service, make_facts(), located(*path))
    assert [(one.code, one.severity, one.location) for one in found] == [(code, "error", ("compose.yaml", 7, 3))]


@pytest.mark.parametrize(
    ("service", "changes", "code", "path"),
    [
        (
            Service(name="web", config={"ulimits": {}}, ulimits={"nofile": Ulimit(soft=9, hard=1 << 30)}),
            {"can_raise_limits": False},
            "limit-lowered",
            "services.web.ulimits.nofile",
        ),
        (
            Service(name="web", resources=Resources(oom_score_adj=-500)),
            {"oom_score_adj": 0},
            "limit-raised",
            "services.web.oom_score_adj",
        ),
        (
            Service(
                name="web",
                resources=Resources(memory=1 << 30),
                config={"deploy": {"resources": {"limits": {"memory": "1g"}}}},
            ),
            {"cgroups": CgroupFacts(mode="v2", controllers=frozenset({"cpu"}))},
            "limit-not-enforced",
            "services.web.deploy.resources.limits.memory",
        ),
        (
            Service(name="web", resources=Resources(memory=1 << 30, memswap_limit=2 << 30)),
            {"cgroups": V1},
            "limit-not-enforced",
            "services.web.memswap_limit",
        ),
        (Service(name="web", resources=Resources(cpus=64)), {}, "limit-above-host", "services.web.cpus"),
        (
            Service(name="web", cap_add=("SYS_RESOURCE",)),
            {"capabilities": frozenset()},
            "capability-missing",
            "services.web.cap_add[0]",
        ),
    ],
)
def test_what_has_to_be_bent_is_a_warning(service: Service, changes: dict[str, Any], code: str, path: str) -> None:
    found = check_service(service, make_facts(**changes))
    assert [(one.code, one.severity, one.path) for one in found] == [(code, "warning", path)]


def test_security_options() -> None:
    options = bundle.parse_security_options(
        Service(
            name="web", security_opt=("no-new-privileges", "seccomp:unconfined", "label=disable", "apparmor:unconfined")
        )
    )
    assert (options.no_new_privileges, options.seccomp, options.unknown) == (True, "unconfined", ())
    assert bundle.parse_security_options(Service(name="web", security_opt=("seccomp=./p.json",))).seccomp == "./p.json"
    assert not bundle.parse_security_options(
        Service(name="web", security_opt=("systempaths=unconfined",))
    ).confined_paths


def test_an_apparmor_profile_has_to_be_loaded() -> None:
    service = Service(name="web", security_opt=("apparmor=mine",))
    assert bundle.parse_security_options(service).apparmor == "mine"
    assert check_service(service, make_facts(apparmor=frozenset({"mine"}))) == []
    found = check_service(service, make_facts(apparmor=frozenset({"other"})))
    assert [(one.message, one.path) for one in found] == [
        ("the AppArmor profile mine is not loaded", "services.web.security_opt[0]")
    ]

"""Checks across attributes: references, settings that exclude each other."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.source import Path
from orchestrator.spec.casts import suggest_name
from orchestrator.spec.cycles import check_cycles
from orchestrator.spec.merge import copy_map
from orchestrator.spec.normalize import list_containers
from orchestrator.spec.positions import Map, Mark, Problems, Seq

_PULL = re.compile(r"always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+")
_FREE_NETWORK_MODES = ("none", "host", "bridge", "default")


def check_stack(tree: Map, active: Map, disabled: Map, problems: Problems) -> None:
    """Check every active service of a normalised tree against the others and against the resources."""
    for name, service in active.items():
        _Check(tree, active, disabled, problems, name, service).check()
    check_cycles(active, problems)


def check_dormant(tree: Map, active: Map, disabled: Map, dormant: Map, problems: Problems) -> None:
    """Check the builds of `dormant` services, which active ones are built from."""
    if dormant:
        every = copy_map(active)
        for name, service in dormant.items():
            every.put(name, service, dormant.marks[name])
        for name, service in dormant.items():
            _Check(tree, every, disabled, problems, name, service).check()


def check_resources(tree: Map, problems: Problems) -> None:
    """Check the top-level volumes, secrets and configs of a normalised tree."""
    for key, volume in (tree.get("volumes") or {}).items():
        _check_external(problems, ("volumes", key), volume)
    for section, ways in (("secrets", ("file", "environment")), ("configs", ("file", "environment", "content"))):
        for key, source in (tree.get(section) or {}).items():
            _check_file_source(problems, (section, key), source, ways, tree[section].marks[key][0])


def _check_external(problems: Problems, path: Path, resource: Map) -> None:
    if not resource.get("external"):
        return
    for key in resource:
        if key not in ("name", "external", "ipam"):
            problems.report(
                "conflicting-attributes",
                f"{path[-1]} is external, so {key} has no effect",
                resource.marks[key][0],
                (*path, key),
                f"remove {key}, or external",
            )


def _check_file_source(problems: Problems, path: Path, source: Map, ways: tuple[str, ...], mark: Mark) -> None:
    # An empty text can be the content of a config, but not the name of a variable.
    given = [way for way in ways if way in source and (source[way] or way != "environment" or "content" in ways)]
    if len(given) > 1:
        problems.report(
            "conflicting-attributes",
            f"{' and '.join(given)} exclude each other",
            source.marks[given[1]][0],
            path,
            "keep one of them",
        )
    declared = source.get("external") or ("content" in ways and "external" in source)
    if not given and not declared and not problems.is_broken(path):
        problems.report(
            "missing-attribute", f"{path[-1]} needs one of {', '.join(ways)}, or external: true", mark, path
        )


class _Check:
    """All checks of one service."""

    def __init__(self, tree: Map, active: Map, disabled: Map, problems: Problems, name: str, service: Map) -> None:
        self.tree = tree
        self.active = active
        self.disabled = disabled
        self.problems = problems
        self.name = name
        self.service = service
        self.path: Path = ("services", name)

    def check(self) -> None:
        self._check_image()
        self.check_container()
        self._check_dependencies()
        self._check_scale()
        self._check_limits()
        self._check_probe()
        self._check_build()
        self._check_develop()
        for index, hook in enumerate(list_containers(self.service)[1:]):
            _CheckOfHook(self, hook, index).check_container()

    def check_container(self) -> None:
        """What is about any container, also one of ``pre_start``."""
        self._check_references()
        self._check_networks()
        self._check_mounts()
        self._check_pull()
        self._check_device_requests()

    def _mark(self, *path: Any) -> Mark:
        """The mark of a value of the service, or of the closest that was written."""
        value: Any = self.service
        best = self.active.marks[self.name][0]
        for part in path:
            if type(value) is Map and part in value:
                best = value.marks.get(part, (0, 0))[1] or best
            elif type(value) is Seq and isinstance(part, int) and part < len(value):
                best = value.marks[part] or best
            else:
                break
            value = value[part]
        return best

    def _report(self, code: str, message: str, *path: Any, hint: str = "") -> None:
        self.problems.report(code, message, self._mark(*path), (*self.path, *path), hint)

    def _check_image(self) -> None:
        service = self.service
        if service.get("image") or "build" in service or "provider" in service:
            return
        if any(self.problems.is_broken((*self.path, key)) for key in ("image", "build", "provider", "extends")):
            return
        self._report("no-image", f"the service {self.name} has neither image nor build", hint="add image: NAME:TAG")

    def _check_references(self) -> None:
        for attribute in ("networks", "models"):
            for key in self.service.get(attribute) or ():
                self._refer(attribute, key, (attribute, key))
        for attribute in ("secrets", "configs"):
            for index, mount in enumerate(self.service.get(attribute) or ()):
                self._refer(attribute, mount.get("source"), (attribute, index))
        for index, mount in enumerate(self.service.get("volumes") or ()):
            if mount.get("type") == "volume" and mount.get("source"):
                self._refer("volumes", mount["source"], ("volumes", index))
        build = self.service.get("build")
        if type(build) is not Map:
            return
        for index, mount in enumerate(build.get("secrets") or ()):
            self._refer("secrets", mount.get("source"), ("build", "secrets", index))
        for key, context in (build.get("additional_contexts") or {}).items():
            other = context.removeprefix("service:")
            if other != context and other not in self.active and other not in self.disabled:
                self._report(
                    "undefined-service",
                    f"the context {key} is the build of {other}, which is not defined",
                    "build",
                    "additional_contexts",
                    key,
                    hint=suggest_name(other, [*self.active, *self.disabled]),
                )

    def _refer(self, section: str, key: str | None, path: Path) -> None:
        known: Map = self.tree.get(section) or Map()
        if key in known or self.problems.is_broken((section,)):
            return
        kind = section[:-1]
        if not key:
            if not self.problems.is_broken((*self.path, *path)):
                self._report("missing-attribute", f"the {kind} has no source", *path)
            return
        hint = suggest_name(key, known) or f"define it under {section}:"
        if section == "volumes" and "/" in key:
            hint = f"a host path begins with ./ or /: did you mean ./{key}?"
        if section == "models":
            # Tools outside of this file may bring models: the reference does not look.
            self.problems.warn(
                "undefined-model",
                f"{self.name} refers to the model {key}, which is not defined",
                self._mark(*path),
                (*self.path, *path),
                hint,
            )
            return
        self._report(
            f"undefined-{kind}", f"{self.name} refers to the {kind} {key}, which is not defined", *path, hint=hint
        )

    def _check_dependencies(self) -> None:
        for name, dependency in (self.service.get("depends_on") or {}).items():
            if name in self.active:
                continue
            if name in self.disabled:
                if dependency.get("required", True):
                    profiles = ", ".join(self.disabled[name].get("profiles") or ())
                    self._report(
                        "disabled-service",
                        f"{self.name} depends on {name}, which no active profile switches on",
                        "depends_on",
                        name,
                        hint=f"activate one of its profiles ({profiles}), or set required: false",
                    )
                continue
            self._report(
                "undefined-service",
                f"{self.name} depends on {name}, which is not defined",
                "depends_on",
                name,
                hint=suggest_name(name, [*self.active, *self.disabled]),
            )

    def _check_networks(self) -> None:
        mode = self.service.get("network_mode")
        networks = self.service.get("networks") or {}
        if mode and networks:
            self._report(
                "conflicting-attributes",
                "network_mode and networks exclude each other",
                "network_mode",
                hint="keep one",
            )
        if mode and mode not in _FREE_NETWORK_MODES and ":" not in mode and mode in (self.tree.get("networks") or {}):
            self.problems.warn(
                "network-mode",
                f"network_mode {mode} names a network of this file",
                self._mark("network_mode"),
                (*self.path, "network_mode"),
                f"write networks: [{mode}]",
            )

    def _check_mounts(self) -> None:
        for index, mount in enumerate(self.service.get("volumes") or ()):
            if not mount.get("target") and not self.problems.is_broken((*self.path, "volumes", index)):
                self._report("missing-attribute", "the mount has no target", "volumes", index, hint="add target: /path")
            if mount.get("type") == "bind" and not mount.get("source"):
                self._report("missing-attribute", "the bind mount has no source", "volumes", index)

    def _check_scale(self) -> None:
        service = self.service
        replicas = (service.get("deploy") or {}).get("replicas")
        scale = service.get("scale")
        if scale is not None and replicas is not None and scale != replicas:
            self._report(
                "conflicting-attributes",
                f"scale is {scale}, but deploy.replicas is {replicas}",
                "scale",
                hint="keep one",
            )
        count = scale if scale is not None else replicas
        own = service.get("container_name")
        if not own:
            return
        if count is not None and count > 1:
            self._report(
                "conflicting-attributes",
                f"container_name is one name, but there are {count} containers",
                "container_name",
                hint="remove container_name",
            )

    def _check_limits(self) -> None:
        resources = (self.service.get("deploy") or {}).get("resources") or {}
        for attribute, where, key in (
            ("cpus", "limits", "cpus"),
            ("mem_limit", "limits", "memory"),
            ("pids_limit", "limits", "pids"),
            ("mem_reservation", "reservations", "memory"),
        ):
            own, group = self.service.get(attribute), resources.get(where)
            if not own or own == "0" or group is None or group.get(key) == own:
                continue
            other = f"is {group[key]}" if key in group else "is not set"
            self._report(
                "conflicting-attributes",
                f"{attribute} is {own}, but deploy.resources.{where}.{key} {other}",
                attribute,
                hint=f"write deploy.resources.{where}.{key} alone",
            )

    def _check_pull(self) -> None:
        pull = self.service.get("pull_policy")
        if pull is not None and not _PULL.fullmatch(pull):
            self._report(
                "not-allowed",
                f"{pull!r} is no pull policy",
                "pull_policy",
                hint=suggest_name(pull, ("always", "never", "build", "missing", "daily", "weekly"))
                or "use always, missing, never, build, daily, weekly or every_<duration>",
            )

    def _check_probe(self) -> None:
        probe = self.service.get("healthcheck")
        test = probe.get("test") if type(probe) is Map else None
        if test and test[0] not in ("CMD", "CMD-SHELL", "NONE"):
            self._report(
                "bad-probe",
                f"a test that is a list begins with CMD, CMD-SHELL or NONE, not {test[0]!r}",
                "healthcheck",
                "test",
                0,
                hint=suggest_name(test[0], ("CMD", "CMD-SHELL", "NONE")) or 'write ["CMD", ...]',
            )

    def _check_build(self) -> None:
        build = self.service.get("build")
        if type(build) is not Map:
            return
        if build.get("dockerfile") and build.get("dockerfile_inline"):
            self._report(
                "conflicting-attributes", "dockerfile and dockerfile_inline exclude each other", "build", "dockerfile"
            )
        platform, platforms = self.service.get("platform"), build.get("platforms")
        if platform and platforms and platform not in platforms:
            self._report(
                "conflicting-attributes",
                f'service.build.platforms MUST include service.platform "{platform}"',
                "build",
                "platforms",
                hint=f"add {platform} to it",
            )

    def _check_develop(self) -> None:
        develop = self.service.get("develop")
        for index, watch in enumerate((develop.get("watch") if type(develop) is Map else None) or ()):
            if watch.get("action") in ("sync", "sync+restart", "sync+exec") and not watch.get("target"):
                self._report("missing-attribute", "a sync needs a target", "develop", "watch", index)
            if not watch.get("path") and not self.problems.is_broken((*self.path, "develop", "watch", index)):
                self._report("missing-attribute", "path is empty", "develop", "watch", index)

    def _check_device_requests(self) -> None:
        deploy = self.service.get("deploy") or {}
        reservations = (deploy.get("resources") or {}).get("reservations") or {}
        for path, requests in (
            (("gpus",), self.service.get("gpus")),
            (("deploy", "resources", "reservations", "devices"), reservations.get("devices")),
        ):
            for index, request in enumerate(requests or ()):
                if request.get("device_ids") and "count" in request:
                    self._report("conflicting-attributes", "count and device_ids exclude each other", *path, index)


class _CheckOfHook(_Check):
    """The checks of one ``pre_start`` container."""

    def __init__(self, owner: _Check, hook: Map, index: int) -> None:
        super().__init__(owner.tree, owner.active, owner.disabled, owner.problems, owner.name, hook)
        self.path = (*owner.path, "pre_start", index)

"""Rolling updates: ``deploy.update_config`` and ``rollback_config`` on one host.

Containers that are made anew go in groups of `parallelism`; the next group begins when the one before has settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.plan import Settle
from orchestrator.record import Record
from orchestrator.spec.durations import parse_seconds

if TYPE_CHECKING:
    from orchestrator.model import Service
    from orchestrator.reconcile.draft import Draft, Replica


class UpdateConfig(Record):
    """How containers of a service are replaced. `parallelism` 0 is all at once; times are seconds."""

    parallelism: int = 1
    delay: float = 0.0
    monitor: float = 0.0
    max_failure_ratio: float = 0.0
    failure_action: Literal["pause", "continue", "rollback"] = "pause"
    order: Literal["stop-first", "start-first"] = "stop-first"


def resolve_update(service: Service, *, rolling_back: bool) -> UpdateConfig | None:
    """The service's ``update_config`` (on the way back its ``rollback_config``); None if the file says nothing."""
    deploy: Mapping[str, Any] = service.config.get("deploy") or {}
    config = deploy.get("rollback_config" if rolling_back else "update_config")
    if config is None:
        return None
    action: Any = config.get("failure_action") or "pause"
    return UpdateConfig(
        parallelism=int(config.get("parallelism", 1)),
        delay=parse_seconds(config.get("delay")) or 0.0,
        monitor=parse_seconds(config.get("monitor")) or 0.0,
        max_failure_ratio=float(config.get("max_failure_ratio") or 0),
        failure_action="pause" if action == "rollback" and rolling_back else action,
        order=config.get("order") or "stop-first",
    )


class Rolling:
    """The groups of one service's update. Without ``update_config`` there is one group, and nothing is waited for."""

    def __init__(self, draft: Draft, service: Service) -> None:
        self._draft = draft
        self._service = service
        self._config = resolve_update(service, rolling_back=draft.goal.rolling_back)
        replaced = sorted(
            (one for one in draft.replicas[service.name] if one.action == "recreate"), key=lambda one: one.number
        )
        size = (self._config.parallelism if self._config else 0) or max(1, len(replaced))
        if any(one.stop_first for one in replaced):
            # What they hold has to be free before any of the new ones can be: they cannot wait for one another.
            size = len(replaced)
        self._groups = [replaced[start : start + size] for start in range(0, len(replaced), size)]
        self._group_of = {one: index for index, group in enumerate(self._groups) for one in group}
        if self._config is None or draft.want(service.name) != "running":
            self._groups = []

    def gates(self, one: Replica) -> tuple[str, ...]:
        """What the replacement of `one` has to come after."""
        index = self._group_of.get(one, 0)
        return (self._settle_id(index - 1),) if self._groups and index > 0 else ()

    def starts_first(self, one: Replica) -> bool:
        """True if the new container has to run before the old one is stopped."""
        wished = self._config is not None and self._config.order == "start-first"
        return wished and one.alive and not one.stop_first and not self._service.container_name

    def settle_replica(self, one: Replica) -> str:
        """Write down the wait for one new container that the old one is stopped after; return its id."""
        return self._add(f"settle {one.label}", (one,), delay=0.0, started=(f"start {one.label}",))

    def finish(self) -> None:
        """Write down the waits between the groups, once all replacements stand in the draft."""
        for index, group in enumerate(self._groups):
            last = index == len(self._groups) - 1
            assert self._config is not None
            done = [f"{verb} {one.label}" for one in group for verb in ("start", "post_start", "remove")]
            delay = 0.0 if last else self._config.delay
            self._add(self._settle_id(index), tuple(group), delay=delay, started=self._draft.present(done))

    def _settle_id(self, index: int) -> str:
        return f"settle {self._service.name} {index + 1}/{len(self._groups)}"

    def _add(self, key: str, replicas: tuple[Replica, ...], *, delay: float, started: tuple[str, ...]) -> str:
        assert self._config is not None
        config = self._config
        count = len(self._group_of)
        action = config.failure_action
        return self._draft.add(
            Settle(
                id=key,
                subject=self._service.name,
                cause="the update goes on when they are well",
                needs=started,
                service=self._service.name,
                condition="service_started",
                required=action != "continue",
                containers=tuple(one.name for one in replicas),
                monitor=config.monitor,
                delay=delay,
                tolerated=int(config.max_failure_ratio * count),
            )
        )

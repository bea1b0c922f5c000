"""Plans alone, one operation after the other in any order that they allow, with crashes between them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from plan_runner import Crash, Runner
from stacks import want_all

from orchestrator.digest import config_hash
from orchestrator.errors import Conflict, NotFound
from orchestrator.goal import Goal
from orchestrator.model import Stack
from orchestrator.reconcile.providers import is_provided
from reconcile.random_stacks import IMAGES, INIT_IMAGE, edit_document, load_document, make_document, render_document


def live_plans(seed: int, tell: Callable[[str], None]) -> Counter[str]:
    """One run. AssertionError says what must never happen; returns what happened how often."""
    chance = random.Random(seed)
    runner = Runner()
    runner.tell = tell
    for reference in (*IMAGES, INIT_IMAGE):
        runner.engine.publish_image(reference)
    runner.pick = lambda count: chance.randrange(count)
    happened: Counter[str] = Counter()
    document = make_document(chance)
    for _ in range(chance.randint(1, 5)):
        document = edit_document(chance, document) if chance.random() < 0.7 else document
        stack = load_document(document, ("debug",))
        tell(render_document(document))
        goal = _make_goal(chance, stack, runner.clock())
        runner.crash_after = chance.choice((None, None, chance.randint(0, 12)))
        happened["goals"] += 1
        try:
            happened["operations"] += sum(len(plan) for plan in runner.converge(goal))
        except Crash:
            happened["crashes"] += 1
            runner.crash_after = None
            if chance.random() < 0.5:
                continue
            happened["operations"] += sum(len(plan) for plan in runner.converge(goal))
        except NotFound:
            # Something that this goal builds upon is not there, nor made by it: nothing was done.
            assert any(one.config.get("network_mode") for one in stack.services.values())
            continue
        runner.crash_after = None
        if not runner.failed:
            assert not runner.plan(goal), "a second plan is not empty"
            _check_reached(runner, goal)
        else:
            # Only what this goal leaves alone may be in the way.
            assert not goal.remove_orphans or goal.wants.keys() != stack.services.keys(), runner.failed
            assert all(type(error) is Conflict for error in runner.failed.values()), runner.failed
        _let_something_end(chance, runner)
    runner.converge(Goal(stack=stack, down=True, remove_orphans=True, remove_volumes=True, issued_at=runner.clock()))
    left = runner.engine.observe("app")
    assert not (left.containers or left.networks or left.volumes), f"down leaves {left}"
    return happened


def _make_goal(chance: random.Random, stack: Stack, now: float) -> Goal:
    """Something that a command could ask of the stack."""
    names = sorted(stack.services)
    some = dict.fromkeys(chance.sample(names, chance.randint(1, len(names))), now)
    orphans = chance.random() < 0.5
    match chance.choice(("up", "up", "up", "recreate", "restart", "renew", "stop", "create", "rm")):
        case "recreate":
            return want_all(stack, now, recreate_before=some, remove_orphans=orphans)
        case "restart":
            return want_all(stack, now, restart_before=some, remove_orphans=orphans)
        case "renew":
            return want_all(stack, now, renew_volumes_before=some, remove_orphans=orphans)
        case "stop":
            return Goal(stack=stack, wants=dict.fromkeys(some, "stopped"), issued_at=now)
        case "create":
            return want_all(stack, now, "created", remove_orphans=orphans)
        case "rm":
            return Goal(stack=stack, wants=dict.fromkeys(some, "absent"), issued_at=now)
    return want_all(stack, now, remove_orphans=orphans, pull=chance.choice(("policy", "always")))


def _let_something_end(chance: random.Random, runner: Runner) -> None:
    alive = [one for one in runner.engine.observe("app").containers if one.alive]
    if alive and chance.random() < 0.5:
        runner.engine.exit(chance.choice(alive).id, chance.choice((0, 1)))


def _check_reached(runner: Runner, goal: Goal) -> None:
    """The observed state is what the goal asks for."""
    observed = runner.engine.observe("app", goal.stack)
    for name, want in goal.wants.items():
        containers = observed.of_service(name)
        service = goal.stack.services[name]
        if is_provided(service) and want != "untouched":
            assert not containers, f"{name} is provided and has containers"
        elif want == "absent":
            assert not containers, f"{name} shall be absent"
        elif want == "stopped":
            assert not any(one.alive for one in containers), f"{name} shall be stopped"
        else:
            assert len(containers) == goal.replicas(name), f"{name} has {len(containers)} replicas"
            for one in containers:
                assert one.config_hash == config_hash(service, goal.stack), f"{one.name} has diverged"
                assert one.image_id == observed.images[service.image or ""].id  # type: ignore[union-attr]
                assert one.name == (service.container_name or f"app-{name}-{one.number}")
                done = one.status == "exited" and (one.exit_code == 0 or one.finished_at >= goal.issued_at)
                assert want == "created" or one.alive or done, f"{one.name} is {one.status}"
    if goal.remove_orphans:
        assert {one.service for one in observed.containers} <= goal.stack.services.keys(), "orphans are left"

"""Which images ``pull`` fetches for a project's services, and which it leaves out, and why. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from orchestrator.model import image_reference
from orchestrator.record import Record
from orchestrator.spec.pre_start import list_init_services

if TYPE_CHECKING:
    from orchestrator.model import Service, Stack

NOTHING: Final = "No image to be pulled"
PRESENT: Final = "Image is already present locally"
BUILDABLE: Final = "Image can be built"
TAKEN: Final = "Image is already being pulled by {}"


class Pull(Record):
    """What becomes of one service's image. `skipped` is why it is not fetched, empty if it is."""

    service: str
    reference: str
    platform: str | None = None
    skipped: str = ""


def needs_presence(stack: Stack, names: Sequence[str], policy: str | None) -> bool:
    """Whether :func:`choose_pulls` has to know which images are here."""
    return any(_policy_of(one, policy) in ("missing", "if_not_present") for _, one in _list_holders(stack, names))


def _list_holders(stack: Stack, names: Sequence[str]) -> list[tuple[str, Service]]:
    """The services, and those of their ``pre_start`` containers that name an image, with what each is called."""
    found = []
    for name in names:
        found.append((name, stack.services[name]))
        hooks = stack.services[name].config.get("pre_start") or ()
        for index, (hook, shaped) in enumerate(zip(hooks, list_init_services(stack.services[name]), strict=True)):
            if hook.get("image"):
                found.append((f"{name} pre_start[{index}]", shaped))
    return found


def choose_pulls(
    stack: Stack,
    names: Sequence[str],
    present: Collection[str],
    *,
    policy: str | None = None,
    leave_out: Collection[str] = (),
) -> tuple[Pull, ...]:
    """Return what is done for each of the services `names` and their ``pre_start`` containers, in their order.

    `present` are references of images that are here, `leave_out` those that are built instead. `policy` (``always``,
    ``missing``) stands for the services' own. What is called ``latest`` is fetched also if it is here: it may have
    moved. Each image comes once.
    """
    taken: dict[tuple[str, str | None], str] = {}
    found = []
    for name, service in _list_holders(stack, names):
        pull = Pull(service=name, reference=image_reference(stack, service), platform=service.platform)
        kind = _policy_of(service, policy)
        image = (pull.reference, pull.platform)
        if service.image is None:
            pull = pull.replace(skipped=NOTHING)
        elif kind in ("never", "build"):
            pull = pull.replace(skipped=f"pull_policy is {kind}")
        elif pull.reference in leave_out:
            pull = pull.replace(skipped=BUILDABLE)
        elif kind in ("missing", "if_not_present") and pull.reference in present and not _is_latest(pull.reference):
            pull = pull.replace(skipped=PRESENT)
        elif image in taken:
            pull = pull.replace(skipped=TAKEN.format(taken[image]))
        else:
            taken[image] = name
        found.append(pull)
    return tuple(found)


def _policy_of(service: Service, policy: str | None) -> str:
    return (policy if service.image is not None else None) or service.pull_policy or "always"


def _is_latest(reference: str) -> bool:
    name, at, _ = reference.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    return not at and (not colon or tag == "latest")

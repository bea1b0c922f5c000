"""Live beside firewalls that drop what is forwarded by default: Docker's, and iptables front ends such as ufw.

An accept in our own chains cannot undo a drop in theirs. Where such a policy stands, two rules for our links are
added: to DOCKER-USER, the chain that Docker leaves to others, or else to FORWARD. They are plain enough for
``iptables -S`` to show. iptables comes in two kinds that do not see each other's rules; a host may use both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orchestrator.engines.native.network.nftables import apply_commands, list_dropping_chains, read_chain
from orchestrator.errors import EngineError

_RETURN = re.compile(r"^\s*(?:counter packets \d+ bytes \d+ )?return\s+# handle (\d+)$", re.MULTILINE)
_POLICY_DROP = re.compile(r"hook forward [^;]*;\s*policy drop")
_CHAINS = ("DOCKER-USER", "FORWARD")
_WHAT = "let our networks through the host's firewall"


def ensure_accepted(link_prefix: str, bridges: Iterable[str] = ()) -> bool:
    """Have the host's other firewalls let through what enters or leaves links that begin with `link_prefix`.

    `bridges` are names of further links (networks with ``com.docker.network.bridge.name``). Cheap where there is no
    such firewall (0.2 ms), idempotent; to be called on each ``up``, since Docker may have been started in between.
    Returns True if rules were added. Blocking.
    """
    patterns = [f"{link_prefix}*", *sorted(bridges)]
    added = False
    for family in ("ip", "ip6"):
        added |= _ensure_in_nftables(family, patterns)
        if _uses_legacy(family):
            added |= _ensure_in_legacy(family, patterns)
    return added


def find_drops(link_prefix: str) -> list[tuple[str, bool]]:
    """Firewalls that drop what is forwarded by default, each with whether our links are let through. Blocking."""
    found = []
    for family in ("ip", "ip6"):
        text = read_chain(family, "filter", "FORWARD")
        if text is not None and _POLICY_DROP.search(text):
            chains = [read_chain(family, "filter", chain) or "" for chain in _CHAINS]
            found.append((f"the {family} chain FORWARD", any(f'"{link_prefix}*"' in one for one in chains)))
        if _uses_legacy(family):
            rules = _run_legacy(family, "-S").splitlines()
            if "-P FORWARD DROP" in rules:
                accepted = any(rule in rules for chain in _CHAINS for rule in _legacy_rules(chain, [f"{link_prefix}*"]))
                found.append((f"the {family} chain FORWARD (iptables-legacy)", accepted))
    return found


def find_foreign_drops(link_prefix: str) -> list[str]:
    """Other nftables chains that drop what is forwarded by default, and do not name our links. Blocking.

    A firewall of the administrator's own, which nothing is added to.
    """
    found = []
    for family, table, chain in list_dropping_chains("forward"):
        if table == "filter" and chain == "FORWARD":
            continue
        if f'"{link_prefix}' not in (read_chain(family, table, chain) or ""):
            found.append(f"{family} {table} {chain}")
    return found


def remove_accepted(link_prefix: str, bridges: Iterable[str] = ()) -> None:
    """Take away the rules that :func:`ensure_accepted` added. Idempotent; for when the last network is gone."""
    patterns = [f"{link_prefix}*", *sorted(bridges)]
    names = "|".join(re.escape(one) for one in patterns)
    for family in ("ip", "ip6"):
        for chain in _CHAINS:
            text = read_chain(family, "filter", chain) or ""
            ours = re.compile(rf'^\s*[io]ifname "(?:{names})"\s.*accept\s+# handle (\d+)$', re.MULTILINE)
            commands = [f"delete rule {family} filter {chain} handle {one}\n" for one in ours.findall(text)]
            if commands:
                apply_commands("".join(commands), "take our rules out of the host's firewall")
        if _uses_legacy(family):
            rules = _run_legacy(family, "-S").splitlines()
            for chain in _CHAINS:
                for rule in _legacy_rules(chain, patterns):
                    if rule in rules:
                        _run_legacy(family, "-D", *rule.split()[1:])


def _ensure_in_nftables(family: str, patterns: Sequence[str]) -> bool:
    chain = _CHAINS[0]
    text = read_chain(family, "filter", chain)
    if text is None:
        chain = _CHAINS[1]
        text = read_chain(family, "filter", chain)
        if text is None or not _POLICY_DROP.search(text):
            return False
    missing = [
        rule
        for rule in (f'{way}ifname "{pattern}"' for pattern in patterns for way in "io")
        if not re.search(rf"^\s*{re.escape(rule)}\s.*accept", text, re.MULTILINE)
    ]
    # In DOCKER-USER the user's own rules keep their say: ours come last. Before version 28 Docker ends that chain with
    # a return, behind which a rule would never be reached.
    last = _RETURN.findall(text)
    if chain == "FORWARD":
        where = f"insert rule {family} filter {chain}"
    elif last:
        where = f"insert rule {family} filter {chain} position {last[-1]}"
    else:
        where = f"add rule {family} filter {chain}"
    if missing:
        apply_commands("".join(f"{where} {rule} counter accept\n" for rule in missing), _WHAT)
    return bool(missing)


def _uses_legacy(family: str) -> bool:
    """True if the old kind of iptables has rules in this network namespace."""
    try:
        with open(f"/proc/net/{family}_tables_names") as file:
            return "filter" in file.read().split()
    except OSError:
        return False


def _run_legacy(family: str, *words: str) -> str:
    import subprocess

    program = "iptables-legacy" if family == "ip" else "ip6tables-legacy"
    try:
        done = subprocess.run([program, "-w", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    if done.returncode:
        raise EngineError(f"cannot {_WHAT}: {done.stderr.strip()}", resource=program, operation=_WHAT)
    return done.stdout


def _legacy_rules(chain: str, patterns: Iterable[str]) -> list[str]:
    shown = [pattern.replace("*", "+") for pattern in patterns]
    return [f"-A {chain} -{way} {pattern} -j ACCEPT" for pattern in shown for way in "io"]


def _ensure_in_legacy(family: str, patterns: Sequence[str]) -> bool:
    rules = _run_legacy(family, "-S").splitlines()
    chain = "DOCKER-USER" if "-N DOCKER-USER" in rules else "FORWARD"
    if chain == "FORWARD" and "-P FORWARD DROP" not in rules:
        return False
    present = [rule for rule in rules if rule.startswith(f"-A {chain} ")]
    missing = [rule for rule in _legacy_rules(chain, patterns) if rule not in present]
    place = 1
    if chain == "DOCKER-USER":
        ends = present[-1:] == [f"-A {chain} -j RETURN"]
        place = len(present) + (0 if ends else 1)
    for offset, rule in enumerate(missing):
        _run_legacy(family, "-I", chain, str(place + offset), *rule.split()[2:])
    return bool(missing)

"""Live beside firewalls that drop what is forwarded by default: Docker's, and iptables front ends such as ufw.

An accept in our own chains cannot undo a drop in theirs. Where such a policy stands, two rules for our links are
added: to DOCKER-USER, the chain that Docker leaves to others, or else to FORWARD. They are plain enough for
``iptables -S`` to show.
"""

from __future__ import annotations

import re

from orchestrator.engines.native.nftables import apply_commands, read_chain

_RETURN = re.compile(r"^\s*(?:counter packets \d+ bytes \d+ )?return\s+# handle (\d+)$", re.MULTILINE)
_POLICY_DROP = re.compile(r"hook forward [^;]*;\s*policy drop")


def _encode_rules(family: str, text: str, chain: str, pattern: str) -> str:
    """nft commands that add what is missing from the chain's `text`; rules of the user in front keep their say."""
    missing = [
        rule
        for rule in (f'iifname "{pattern}"', f'oifname "{pattern}"')
        if not re.search(rf"^\s*{re.escape(rule)}\s.*accept", text, re.MULTILINE)
    ]
    if chain == "FORWARD":
        return "".join(f"insert rule {family} filter {chain} {rule} counter accept\n" for rule in missing)
    last = _RETURN.findall(text)
    # Docker before version 28 ends its chain with a return: behind it a rule would never be reached.
    where = f"insert rule {family} filter {chain} position {last[-1]}" if last else f"add rule {family} filter {chain}"
    return "".join(f"{where} {rule} counter accept\n" for rule in missing)


def ensure_accepted(link_prefix: str) -> bool:
    """Have the host's other firewalls let through what enters or leaves links that begin with `link_prefix`.

    Cheap where none is present (a look each for IPv4 and IPv6), idempotent; to be called on each ``up``. Returns True
    if rules were added. Blocking.
    """
    added = False
    for family in ("ip", "ip6"):
        chain = "DOCKER-USER"
        text = read_chain(family, "filter", chain)
        if text is None:
            chain = "FORWARD"
            text = read_chain(family, "filter", chain)
            if text is None or not _POLICY_DROP.search(text):
                continue
        commands = _encode_rules(family, text, chain, f"{link_prefix}*")
        if commands:
            apply_commands(commands, "let our networks through Docker's firewall")
            added = True
    return added


def remove_accepted(link_prefix: str) -> None:
    """Take away the rules that :func:`ensure_accepted` added. Idempotent."""
    for family in ("ip", "ip6"):
        for chain in ("DOCKER-USER", "FORWARD"):
            text = read_chain(family, "filter", chain) or ""
            pattern = re.compile(
                rf'^\s*[io]ifname "{re.escape(link_prefix)}\*"\s.*accept\s+# handle (\d+)$', re.MULTILINE
            )
            commands = [f"delete rule {family} filter {chain} handle {one}\n" for one in pattern.findall(text)]
            if commands:
                apply_commands("".join(commands), "take our rules out of Docker's firewall")

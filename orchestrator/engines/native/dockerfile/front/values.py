"""Values that instructions take: durations, ports, signals, booleans, modes. Pure. All raise Problem."""

from __future__ import annotations

import re

from orchestrator.engines.native.dockerfile.front.problems import Problem, suggest_name

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)"
_LONGEST = 2**63 - 1
_SIZE = r"(?i:([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(i?b)?)"
_OCTAL = r"[0-7]{1,5}"
_SYMBOLIC = r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*"
_REMOTE = r"(?i:(?:https?|git|ssh|file)://)"
_GIT_SSH = r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:.+"
_DIGITS = r"[0-9]+"
_SIGNALS = (
    *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM"),
    *("TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM"),
    *("PROF", "WINCH", "IO", "POLL", "PWR", "SYS", "RTMIN", "RTMAX"),
)
_REAL_TIME = r"RTMIN\+(?:[1-9]|1[0-5])|RTMAX-(?:[1-9]|1[0-4])"


def parse_duration(text: str) -> int:
    """A Go duration (``1m30s``, ``1.5h``) in nanoseconds."""
    rest = text.lstrip("+-") if text[:1] in ("+", "-") else text
    total = 0
    if rest != "0":
        at = 0
        while at < len(rest) or not rest:
            match = re.compile(_DURATION).match(rest, at)
            if match is None or not (match[1] or match[2]):
                raise Problem(f"{text!r} is not a duration", code="invalid-duration", hint="for example 30s or 1m30s")
            unit, fraction = _UNITS[match[3]], match[2] or ""
            total += int(match[1][:30] or 0) * unit + (
                int(fraction[:20]) * unit // 10 ** len(fraction[:20]) if fraction else 0
            )
            at = match.end()
    if total > _LONGEST:
        raise Problem(f"the duration {text} is too long", code="invalid-duration")
    return -total if text.startswith("-") else total


def parse_health_interval(text: str) -> int:
    """A duration of HEALTHCHECK: nothing, 0 or at least a millisecond."""
    if not text:
        return 0
    value = parse_duration(text)
    if value and value < _UNITS["ms"]:
        raise Problem(f"{text} is less than a millisecond", code="invalid-duration")
    return value


def parse_retries(text: str) -> int:
    """A number of retries: at least 0."""
    digits = text.removeprefix("+")
    if not re.fullmatch(_DIGITS, digits) or len(digits) > 10 or int(digits) >= 2**31:
        raise Problem(f"{text!r} is not a number of retries", code="invalid-number", hint="for example 3")
    return int(digits)


def parse_ports(text: str) -> tuple[str, ...]:
    """``80``, ``53/udp`` or ``8000-8010/tcp`` as ``80/tcp`` ...; ``address:port:`` before it means nothing."""
    host, _, published = text.rpartition(":")
    numbers, _, protocol = published.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        hint = suggest_name(protocol, ("tcp", "udp", "sctp"), otherwise="it is tcp, udp or sctp")
        raise Problem(f"unknown protocol {protocol!r} in {text!r}", code="invalid-port", hint=hint)
    start, end = _parse_port_range(numbers, text)
    if host:
        _check_host(host, end - start, text)
    return tuple(f"{port}/{protocol}" for port in range(start, end + 1))


def _check_host(host: str, width: int, whole: str) -> None:
    from ipaddress import ip_address

    address, _, numbers = host.rpartition(":")
    if numbers:
        first, last = _parse_port_range(numbers, whole)
        if width and last - first != width:
            raise Problem(f"the two ranges of {whole!r} are not equally long", code="invalid-port")
    if address:
        try:
            ip_address(address.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise Problem(f"{address!r} in {whole!r} is no address", code="invalid-port") from None


def _parse_port_range(numbers: str, whole: str) -> tuple[int, int]:
    first, dash, last = numbers.partition("-")
    start, end = _parse_port(first, whole), _parse_port(last if dash else first, whole)
    if end < start:
        raise Problem(
            f"the range {numbers} ends before it begins", code="invalid-port", hint=f"did you mean {last}-{first}?"
        )
    return start, end


def _parse_port(text: str, whole: str) -> int:
    if not re.fullmatch(_DIGITS, text) or len(text) > 9 or int(text) > 65535:
        raise Problem(f"invalid port {whole!r}", code="invalid-port", hint="for example 80, 53/udp or 8000-8010")
    return int(text)


def check_signal(text: str) -> str:
    """`text` itself, if it names a signal (``SIGTERM``, ``term``, ``15``, ``SIGRTMIN+3``)."""
    name = text.upper().removeprefix("SIG")
    if re.fullmatch(_DIGITS, text) and len(text) < 9 and 0 < int(text) < 65:
        return text
    if name in _SIGNALS or re.fullmatch(_REAL_TIME, name):
        return text
    hint = suggest_name(name, _SIGNALS, otherwise="for example SIGTERM")
    raise Problem(f"{text!r} is not a signal", code="invalid-signal", hint=hint)


def parse_boolean(text: str) -> bool:
    """What Go's ParseBool takes: 1, t, true, 0, f, false in three casings."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Problem(f"{text!r} is neither true nor false", code="invalid-boolean")


def parse_size(text: str) -> int:
    """``64m``, ``1.5GiB`` or bytes; every unit counts by 1024."""
    match = re.fullmatch(_SIZE, text.strip())
    if match is None or len(text) > 40:
        raise Problem(f"{text!r} is not a size", code="invalid-size", hint="for example 64m or 1g")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def parse_octal(text: str) -> int:
    """File permissions like ``0644``."""
    if not re.fullmatch(r"[0-7]{1,11}", text):
        raise Problem(f"{text!r} is not an octal mode", code="invalid-mode", hint="for example 0644")
    return int(text, 8)


def parse_id(text: str) -> int:
    """A numeric user or group."""
    if not re.fullmatch(_DIGITS, text) or len(text) > 10 or int(text) >= 2**32:
        raise Problem(f"{text!r} is not a numeric identifier", code="invalid-number")
    return int(text)


def check_mode(text: str) -> str:
    """`text` itself, if chmod understands it: octal up to 7777, or symbolic (``u=rwX,go=rX``)."""
    octal = re.fullmatch(_OCTAL, text)
    if (octal and int(text, 8) <= 0o7777) or (text and re.fullmatch(_SYMBOLIC, text)):
        return text
    raise Problem(f"{text!r} is not a file mode", code="invalid-mode", hint="for example 755, 0644 or u=rwX,go=rX")


def is_remote(source: str) -> bool:
    """Whether ADD fetches `source`: a URL or a git reference that cannot be a path."""
    if re.compile(_REMOTE).match(source):
        return True
    return re.compile(_GIT_SSH).match(source) is not None

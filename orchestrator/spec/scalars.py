"""Plain YAML scalars as Compose files mean them: the YAML 1.2 core schema, plus octal ``0755`` and dates.

``yes``, ``on`` and ``22:22`` are strings. Numbers become what they denote; :func:`render_scalar` writes them back the
way the reference implementation (Go) prints them.
"""

from __future__ import annotations

import math
import re
from typing import Any

_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".nan": math.nan, ".NaN": math.nan, ".NAN": math.nan,
    ".inf": math.inf, ".Inf": math.inf, ".INF": math.inf, "+.inf": math.inf, "+.Inf": math.inf, "+.INF": math.inf,
    "-.inf": -math.inf, "-.Inf": -math.inf, "-.INF": -math.inf,
}  # fmt: skip
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:(?:[Tt]([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,]([0-9]+))?(Z|[-+][0-9]{2}:[0-9]{2}))"
    r"|(?: ([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,]([0-9]+))?))?"
)
_NUMERIC = frozenset("0123456789+-.")
_LONGEST_NUMBER = 64


class Timestamp(str):
    """A plain date or time: as a string RFC 3339; `shown` is what it becomes as the value of a variable or label.

    `written` is the text as it stands in the file.
    """

    __slots__ = ("shown", "written")
    shown: str
    written: str


def parse_timestamp(text: str) -> Timestamp | None:
    """Return the moment that a plain scalar denotes as YAML 1.1 reads it; None if it is none."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return None
    parts = found.groups()
    year, month, day = (int(part) for part in parts[:3])
    hour, minute, second = (int(part or 0) for part in (parts[3:6] if parts[3] else parts[8:11]))
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = 29 if month == 2 and leap else 28 if month == 2 else 30 if month in (4, 6, 9, 11) else 31
    if not (1 <= month <= 12 and 1 <= day <= longest and hour < 24 and minute < 60 and second < 60):
        return None
    fraction = (parts[6] or parts[11] or "")[:9].rstrip("0")
    clock = f"{hour:02d}:{minute:02d}:{second:02d}" + (f".{fraction}" if fraction else "")
    zone = parts[7] or "Z"
    if zone[1:] == "00:00":
        zone = "Z"
    moment = Timestamp(f"{year:04d}-{month:02d}-{day:02d}T{clock}{zone}")
    offset = zone.replace(":", "")
    moment.written = text
    moment.shown = f"{moment[:10]} {clock} {'+0000 UTC' if zone == 'Z' else f'{offset} {offset}'}"
    return moment


def resolve_scalar(text: str) -> Any:
    """Return the None, bool, int, float, Timestamp or str that the plain scalar `text` denotes."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC or len(text) > _LONGEST_NUMBER:
        return text
    if text[4:5] == "-":
        moment = parse_timestamp(text)
        if moment is not None:
            return moment
    plain = text.replace("_", "") if "_" in text else text
    number = parse_integer(plain)
    if number is not None and -(2**63) <= number < 2**64:
        return number
    if _FLOAT.fullmatch(plain):
        value = float(plain)
        return text if math.isinf(value) else value
    return text


def parse_integer(text: str) -> int | None:
    """Parse a decimal, ``0x``, ``0o``, ``0b`` or leading-zero octal integer; None if it is none."""
    digits = text.lstrip("+-")
    if not digits or len(text) - len(digits) > 1 or not digits.isascii() or not digits[0].isdigit():
        return None
    base = 10
    if digits[0] == "0" and len(digits) > 1:
        base = {"x": 16, "o": 8, "b": 2}.get(digits[1].lower(), 8)
        if not digits[1].isdigit():
            digits = digits[2:] if base != 8 or digits[1] in "oO" else "?"
    if not digits.isalnum():
        return None
    try:
        number = int(digits, base)
    except ValueError:
        return None
    return -number if text[0] == "-" else number


def render_scalar(value: Any) -> str:
    """Write a scalar as text: ``true``, ``1000`` for 1e3, ``1.5`` for 1.50, ``1e+06`` for 1e6; None is empty."""
    if value is None:
        return ""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if type(value) is float:
        return _render_float(value)
    return value.shown if type(value) is Timestamp else str(value)


def _render_float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign, text = ("-", repr(-value)) if math.copysign(1, value) < 0 else ("", repr(value))
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return sign + "0"
    point = len(digits) - len(fraction) + int(exponent or 0)
    digits = digits.rstrip("0")
    if not -4 <= point - 1 < 6:
        power = point - 1
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return sign + digits.ljust(point, "0")
    return f"{sign}{digits[:point]}.{digits[point:]}"

"""Plain YAML scalars as Compose files mean them: the YAML 1.2 core schema, plus the octal ``0755`` of YAML 1.1.

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
_NUMERIC = frozenset("0123456789+-.")
_LONGEST_NUMBER = 64


def resolve_scalar(text: str) -> Any:
    """Return the None, bool, int, float or str that the plain scalar `text` denotes."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC or len(text) > _LONGEST_NUMBER:
        return text
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
    return str(value)


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

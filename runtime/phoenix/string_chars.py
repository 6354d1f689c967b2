"""Elixir's protocol `String.Chars` for what JSON has: how a ref, or the key of a presence, is written as a string."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any


def to_string(value: Any) -> str:
    """`Kernel.to_string/1`. Raises ValueError for a map, and for a list that is not chardata."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _short(value)
    if isinstance(value, list):
        return _chardata(value)
    raise ValueError("a map has no string form")


def _chardata(value: list[Any]) -> str:
    parts: list[str] = []
    rest: list[Any] = value[::-1]
    while rest:  # no recursion: a client chooses the depth
        part = rest.pop()
        if isinstance(part, list):
            inner: list[Any] = part
            rest += inner[::-1]
        elif isinstance(part, str):
            parts.append(part)
        elif type(part) is int and 0 <= part <= sys.maxunicode and not 0xD800 <= part <= 0xDFFF:
            parts.append(chr(part))
        else:
            raise ValueError("a list that is no chardata has no string form")
    return "".join(parts)


def _short(value: float) -> str:
    """`float_to_binary(Float, [short])`: the shortest digits, with an exponent if that is shorter or the number is large."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    minus = "-" if sign else ""
    scientific = f"{minus}{text[0]}.{text[1:] or '0'}e{exponent + len(text) - 1}"
    if value == 0:
        return f"{minus}0.0"
    if abs(value) >= 1 << 53:
        return scientific
    point = len(text) + exponent
    if exponent >= 0:
        plain = f"{minus}{text}{'0' * exponent}.0"
    elif point > 0:
        plain = f"{minus}{text[:point]}.{text[point:]}"
    else:
        plain = f"{minus}0.{'0' * -point}{text}"
    return plain if len(plain) <= len(scientific) else scientific

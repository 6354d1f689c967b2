"""JSON with the results of Phoenix's Jason at the speed of orjson.

orjson is used where its result is Jason's. A slower path is used where they differ: of two equal keys the first counts,
integers have no bound, and a short text may be nested as deep as it can be. Texts longer than DEEP_LIMIT have the fast
parsers' bound of about 1,000 levels, and those longer than EXACT_LIMIT are refused if a key occurs twice or an integer has 310
digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from json import decoder
from math import isinf
from typing import Any, Final, NoReturn
from uuid import UUID

import orjson

_scanstring: Callable[[str, int, bool], tuple[str, int]] = decoder.scanstring  # type: ignore[attr-defined]

# Bytes; a text nested deeper than the fast parsers allow may have as many.
DEEP_LIMIT: Final = 8_192
# Bytes; a text with a duplicate key may have as many: finding the first one takes 80 ns a byte.
EXACT_LIMIT: Final = 1 << 18
MAX_EXACT: Final = 1 << 22  # elements of a value encoded without orjson

_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:(\.\d+)?([eE][-+]?\d+)?)")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_OPENINGS: Final = re.compile(r"(?:\[[ \t\n\r]*)+")
_DIGITS: Final = bytes(48 if 48 <= byte < 58 else byte for byte in range(256))  # each digit as 0
_LONG: Final = b"0" * 19  # orjson may read integers as floats that have so many digits
_LITERALS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None}


class DecodeError(ValueError):
    """`Jason.DecodeError`: the text is not JSON."""


class EncodeError(ValueError):
    """`Jason.EncodeError`, or a value without a `Jason.Encoder`, such as bytes."""


def decode(data: bytes) -> Any:
    """`Jason.decode!/1`. Raises DecodeError."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        reason = str(error)
        if "depth" in reason:
            if len(data) > DEEP_LIMIT:  # a hundred such messages a second would block the loop
                raise DecodeError("too large to be nested that deep") from None
        elif "infinity" not in reason:  # orjson's error for an integer of 310 digits
            raise DecodeError(reason) from None
        return _decode_exact(data)
    if not _is_unique(data, value):
        return _decode_exact(data)
    return _decode_integers(data) if data.translate(_DIGITS).find(_LONG) >= 0 else value


def _is_unique(data: bytes, value: Any) -> bool:
    """True if no key of `data` occurs twice. Also False if it has several and is nested too deep for orjson to write.

    The value lacks the colon of a repeated key. With escaped colons counted, `data` never has fewer colons than the value, so the
    counts are equal only if no key was dropped.
    """
    colons = data.count(b":")
    if colons < 2:
        return True
    try:
        written = orjson.dumps(value)
    except TypeError:
        return False
    if data.find(b"\\u003") >= 0:  # a third of the time that `in` takes
        colons += data.count(b"\\u003a") + data.count(b"\\u003A")
    return colons == written.count(b":")


def _decode_integers(data: bytes) -> Any:
    """Parses again, for integers that orjson has read as floats."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(str(error)) from None


def _decode_exact(data: bytes) -> Any:
    if len(data) > EXACT_LIMIT:
        raise DecodeError("too large to have a key twice, or such a number")
    text = ""
    try:
        text = data.decode()
        return json.loads(
            text, object_pairs_hook=_first_wins, parse_float=_finite, parse_constant=_no_constant
        )
    except RecursionError:
        if len(data) > DEEP_LIMIT:
            raise DecodeError("too large to be nested that deep") from None
        return _decode_deep(text)
    except ValueError as error:
        raise DecodeError(str(error)) from None


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    pairs.reverse()
    return dict(pairs)


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise DecodeError("number out of range")
    return number


def _no_constant(name: str) -> NoReturn:
    raise DecodeError(f"{name} is not JSON")


def _decode_deep(text: str) -> Any:
    """A parser without recursion, for texts nested too deep for the C parsers."""
    try:
        value, end = _parse(text, _skip(text, 0))
    except (IndexError, ValueError):
        raise DecodeError("not JSON") from None
    if _skip(text, end) != len(text):
        raise DecodeError("extra data after the JSON")
    return value


def _skip(text: str, pos: int) -> int:
    # Whitespace is seldom there, and the regular expression takes three times as long.
    if text[pos : pos + 1] not in " \t\n\r":
        return pos
    found = _SPACE.match(text, pos)
    return pos if found is None else found.end()


def _parse(text: str, pos: int) -> tuple[Any, int]:
    # `stack` holds the open arrays and objects; a pair of an object is (container, key).
    stack: list[tuple[Any, str | None]] = []
    while True:
        char = text[pos]
        if found := _OPENINGS.match(text, pos):
            arrays = text.count("[", pos, found.end())
            stack.extend([([], None) for _ in range(arrays)])
            pos = found.end()
            if text[pos] != "]":
                continue
            value: Any = stack.pop()[0]
            pos += 1
        elif char == "{":
            pos = _skip(text, pos + 1)
            if text[pos] != "}":
                key, pos = _key(text, pos)
                stack.append(({}, key))
                continue
            value = {}
            pos += 1
        else:
            value, pos = _scalar(text, pos)
        while stack:
            container, key = stack.pop()
            if key is None:
                container.append(value)
            else:
                container.setdefault(key, value)
            pos = _skip(text, pos)
            char = text[pos]
            if char == ",":
                pos = _skip(text, pos + 1)
                if key is not None:
                    key, pos = _key(text, pos)
                stack.append((container, key))
                break
            if char != ("]" if key is None else "}"):
                raise DecodeError("not JSON")
            value = container
            pos += 1
        else:
            return value, pos


def _key(text: str, pos: int) -> tuple[str, int]:
    if text[pos] != '"':
        raise DecodeError("a key must be a string")
    key, pos = _scanstring(text, pos + 1, True)
    key.encode()
    pos = _skip(text, pos)
    if text[pos] != ":":
        raise DecodeError("a key must be followed by a colon")
    return key, _skip(text, pos + 1)


def _scalar(text: str, pos: int) -> tuple[Any, int]:
    if text[pos] == '"':
        value, pos = _scanstring(text, pos + 1, True)
        value.encode()  # raises for a lone surrogate
        return value, pos
    for literal, meaning in _LITERALS.items():
        if text.startswith(literal, pos):
            return meaning, pos + len(literal)
    found = _NUMBER.match(text, pos)
    if found is None:
        raise DecodeError("not JSON")
    if found[1] is None and found[2] is None:
        return int(found[0]), found.end()
    return _finite(found[0]), found.end()


def encode(value: Any) -> bytes:
    """`Jason.encode!/1`. Raises EncodeError, for bytes for example."""
    try:
        return orjson.dumps(value, default=_default)
    except TypeError:
        return _encode_exact(value)


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise EncodeError(f"{type(value).__name__} has no JSON form")


def _encode_exact(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    except RecursionError:
        text = _encode_deep(value)
    except (TypeError, ValueError) as error:
        raise EncodeError(str(error)) from None
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(str(error)) from None


def _encode_deep(root: Any) -> str:
    """An encoder without recursion. Raises EncodeError for circular structures."""
    out: list[str] = []
    stack: list[Any] = [root]
    size = 0
    while stack:
        value: Any = stack.pop()
        if type(value) is _Raw:
            out.append(value)
        elif isinstance(value, dict):
            stack.append(_Raw("}"))
            pairs: list[tuple[Any, Any]] = list(value.items())  # type: ignore[arg-type]
            for index in range(len(pairs) - 1, -1, -1):
                key, item = pairs[index]
                stack.append(item)
                stack.append(_Raw(("," if index else "") + json.dumps(str(key), ensure_ascii=False) + ":"))
            stack.append(_Raw("{"))
        elif isinstance(value, list | tuple):
            stack.append(_Raw("]"))
            for index in range(len(value) - 1, -1, -1):
                stack.append(value[index])
                if index:
                    stack.append(_Raw(","))
            stack.append(_Raw("["))
        else:
            out.append(json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain))
        size += 1
        if size > MAX_EXACT:
            raise EncodeError("circular, or too large to be nested that deep")
    return "".join(out)


class _Raw(str):
    __slots__ = ()

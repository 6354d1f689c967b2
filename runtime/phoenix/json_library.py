"""JSON as Phoenix's Jason reads and writes it, at orjson's speed.

orjson does the work whenever its answer is Jason's answer too. The exact path takes over where the two
differ: the first of two equal keys counts, integers have no upper bound, and short texts may be nested as deep as
they can. Longer ones (DEEP_LIMIT) have the bound of the fast parsers, some 1,000 levels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from json import decoder
from typing import Any, Final, NoReturn
from uuid import UUID

import orjson

_scanstring: Callable[[str, int, bool], tuple[str, int]] = decoder.scanstring  # type: ignore[attr-defined]

DEEP_LIMIT: Final = (
    8_192  # bytes of JSON nested deeper than the fast parsers go, which the slow parser accepts
)
MAX_EXACT: Final = 1 << 22  # parts of a value that is encoded without orjson

_EXACT_FLOAT: Final = 1e15  # a larger float may be an integer that orjson could not hold
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:(\.\d+)?([eE][-+]?\d+)?)")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_PLAIN: Final = frozenset({int, bool, type(None)})  # values without colons, none of which has lost digits
_LITERALS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None}


class DecodeError(ValueError):
    """`Jason.DecodeError`: the text is not JSON."""


class EncodeError(ValueError):
    """`Jason.EncodeError`, or a value for which there is no `Jason.Encoder`: bytes, say."""


def decode(data: bytes) -> Any:
    """`Jason.decode!/1`. Raises DecodeError."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "depth" not in str(error):
            raise DecodeError(str(error)) from None
        if len(data) > DEEP_LIMIT:  # read by nobody: a hundred such messages a second would hold the loop
            raise DecodeError("too large to be nested that deep") from None
        return _decode_exact(data)
    if data.count(b":") == _colons(value):
        return value
    return _decode_exact(data)


def _colons(root: Any) -> int:
    # The colons that JSON with these values has if no key came twice; -1 if a number may have lost digits.
    total = 0
    stack: list[Any] = [root]
    while stack:
        value: Any = stack.pop()
        kind: type[Any] = type(value)
        if kind is str:
            if ":" in value:
                total += value.count(":")
        elif kind is dict:
            total += len(value)
            for key in value:
                if ":" in key:
                    total += key.count(":")
            stack.extend(value.values())
        elif kind is list:
            if not _PLAIN.issuperset(map(type, value)):
                stack.extend(value)
        elif kind is float and not -_EXACT_FLOAT < value < _EXACT_FLOAT:
            return -1
    return total


def _decode_exact(data: bytes) -> Any:
    text = ""
    try:
        text = data.decode()
        return json.loads(text, object_pairs_hook=_first_wins, parse_constant=_no_constant)
    except RecursionError:
        if len(data) > DEEP_LIMIT:
            raise DecodeError("too large to be nested that deep") from None
        return _decode_deep(text)
    except ValueError as error:
        raise DecodeError(str(error)) from None


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    pairs.reverse()
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise DecodeError(f"{name} is not JSON")


def _decode_deep(text: str) -> Any:
    """A parser without recursion, for what is nested deeper than the C parsers go."""
    try:
        value, end = _parse(text, _skip(text, 0))
    except (IndexError, ValueError):
        raise DecodeError("not JSON") from None
    if _skip(text, end) != len(text):
        raise DecodeError("extra data after the JSON")
    return value


def _skip(text: str, pos: int) -> int:
    found = _SPACE.match(text, pos)
    return pos if found is None else found.end()


def _parse(text: str, pos: int) -> tuple[Any, int]:
    # `stack` holds the open arrays and objects; a pair of an object is (container, key).
    stack: list[tuple[Any, str | None]] = []
    while True:
        char = text[pos]
        if char == "[":
            pos = _skip(text, pos + 1)
            if text[pos] != "]":
                stack.append(([], None))
                continue
            value: Any = []
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
        value.encode()  # a lone surrogate is no character
        return value, pos
    for literal, meaning in _LITERALS.items():
        if text.startswith(literal, pos):
            return meaning, pos + len(literal)
    found = _NUMBER.match(text, pos)
    if found is None:
        raise DecodeError("not JSON")
    if found[1] is None and found[2] is None:
        return int(found[0]), found.end()
    number = float(found[0])
    if number in (float("inf"), float("-inf")):
        raise DecodeError("number out of range")
    return number, found.end()


def encode(value: Any) -> bytes:
    """`Jason.encode!/1`. Raises EncodeError: for bytes, say, which JSON cannot hold."""
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
    """An encoder without recursion; circular structures end with EncodeError."""
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

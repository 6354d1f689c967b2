"""Decoding of bodies and queries, with an error for every wrong field.

msgspec validates, but stops at the first error: a body that fails is decoded again field by field.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import orjson

from api.http.errors import ApiError, invalid
from api.http.fields import dec_hook

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
MAX_EXPLAINED = 20  # unknown names that are examined: a body may hold thousands
MAX_DEPTH = 128  # nested arrays and objects
SHALLOW = 2 * MAX_DEPTH  # bytes that can't be nested deeper: each bracket has its counterpart
MIN_PREFIX = 3  # letters of an unknown name that may be the beginning of a field's name
_PLACE = re.compile(r" - at `\$(?:\.([A-Za-z0-9_]+))?.*`$")


_TYPES = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_WORDS = {
    "str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list",
    "object": "an object", "datetime": "a timestamp", "uuid": "a UUID",
}  # fmt: skip
TIMESTAMP = "expected a timestamp with its offset from UTC, like 2026-01-31T12:00:00Z"


def _reason(error: msgspec.ValidationError, kind: Any) -> str:
    """msgspec's reason in JSON's terms, in lower case unless it begins with an acronym (a currency)."""
    message = _PLACE.sub("", str(error))
    if "matching regex" in message:
        return "must not contain the NUL character" if "u0000" in message else "has the wrong format"
    if message.startswith("Invalid enum value") and (choices := _choices(kind)):
        return f"expected {' or '.join((', '.join(choices[:-1]), choices[-1]))}"
    if "RFC3339" in message or "timezone component" in message:
        return TIMESTAMP
    message = _TYPES.sub(
        lambda found: " or ".join(_WORDS.get(one, one) for one in found[1].split(" | ")), message
    )
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _choices(kind: Any) -> list[str]:
    """The values of a field that is a Literal of several strings, else none."""
    kind = _without_none(kind)
    choices = list(get_args(kind)) if get_origin(kind) is Literal else []
    return [] if len(choices) < 2 else choices


class Decoder:
    """Decodes one request type; raises ApiError 400 or 422, with a reason for every wrong field.

    A repeated key in an object is 400. An unknown field whose name resembles a known one is an error; other unknown fields are
    ignored, and with `lenient` all are. A type may have a method `problems()` for what is wrong with its fields in combination.
    """

    __slots__ = (
        "_decode",
        "_fields",
        "_lenient",
        "_nothing",
        "_optional",
        "_plain",
        "_problems",
        "_required",
        "kind",
    )

    def __init__(self, kind: type[msgspec.Struct], lenient: bool = False) -> None:
        self.kind = kind
        self._lenient = lenient
        self._nothing = not any(field.required for field in msgspec.structs.fields(kind))
        # This decoder refuses unknown fields; then the slow path decides about them.
        subclass: Any = type(kind)
        strict = (
            kind if lenient else subclass(kind.__name__, (kind,), {}, forbid_unknown_fields=True, frozen=True)
        )
        self._decode = msgspec.json.Decoder(strict, dec_hook=dec_hook, float_hook=_decimal).decode
        self._fields = msgspec.structs.fields(kind)
        self._plain = [_without_none(field.type) for field in self._fields]
        self._problems = getattr(kind, "problems", None)
        self._required = sum(field.required for field in self._fields)
        self._optional = [(field.name, field.default) for field in self._fields if not field.required]

    def json(self, body: bytes) -> Any:
        """The value of a JSON body; the body may be empty if all fields are optional.

        Raises ApiError 400 for invalid JSON and JSON deeper than MAX_DEPTH, 422 for wrong fields.
        """
        if not body and self._nothing:
            return self.kind()
        value = None
        if len(body) <= SHALLOW or not _may_be_deep(body):
            try:
                value = self._decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError):
                value = None  # _loads says whether it is JSON at all, or only holds what msgspec refuses
        if value is None or not (self._is_each_field_once(value, body) or _is_each_key_once(body)):
            value = self._by_field(_loads(body))
        if self._problems is not None and (bad := self._problems(value)):
            raise invalid(bad)
        return value

    def _is_each_field_once(self, value: Any, body: bytes) -> bool:
        """Whether a decoded object has no repeated key. May be False for one that has none.

        Each key has a colon, so there are no more keys than colons, and no fewer than fields that have a value. If the numbers
        are the same, no key is repeated, and no colon is in a string or in a nested object.
        """
        present = self._required
        for name, default in self._optional:
            present += getattr(value, name) is not default
        return body.count(b":") == present

    def strings(self, values: Mapping[str, str]) -> Any:
        """The value of text pairs (a query, a form): numbers are parsed, and `null` is plain text."""
        bad = {} if self._lenient else self._unknown(values)
        read: dict[str, Any] = {}
        for field, kind in zip(self._fields, self._plain, strict=True):
            given = values.get(field.encode_name)
            if given is None:
                if field.required:
                    bad[field.encode_name] = "is missing"
                continue
            try:
                value: Any = given
                if _is_whole(kind):
                    if _WHOLE.fullmatch(given) is None:
                        raise msgspec.ValidationError("Expected a whole number")
                    value = int(given)
                read[field.name] = msgspec.convert(value, kind, dec_hook=dec_hook)
            except msgspec.ValidationError as error:
                bad[field.encode_name] = _reason(error, kind)
        if bad:
            raise invalid(bad)
        return self.kind(**read)

    def _unknown(self, given: Iterable[str]) -> dict[str, str]:
        """The errors for unknown parameters: ignored, they would make a list seem filtered that is not."""
        names = [field.encode_name for field in self._fields]
        return {
            name: f"is unknown; {_meant(name, names) or 'known parameters: ' + ', '.join(names)}"
            for name in given
            if name not in names
        }

    def _misspelt(self, given: Mapping[str, Any]) -> dict[str, str]:
        names = [field.encode_name for field in self._fields]
        left = [name for name in names if name not in given]
        # A known name in another spelling is an error even if the field itself is there too.
        spelt = {_plain(name): f"did you mean {name}?" for name in names}
        others = itertools.islice((name for name in given if name not in names), MAX_EXPLAINED)
        # An error can't repeat a name that holds half of a UTF-16 pair.
        others = (name for name in others if not _lone_surrogate(name))
        unknown = {name: spelt.get(_plain(name)) or _meant(name, left) for name in others}
        return {name: f"is unknown; {meant}" for name, meant in unknown.items() if meant is not None}

    def _by_field(self, value: Any) -> Any:
        """Decodes field by field; returns the value if only ignored fields were wrong. Raises ApiError 422 for wrong fields."""
        if not isinstance(value, dict):
            raise invalid({"body": "expected an object"})
        known: dict[str, Any] = {}
        bad = {} if self._lenient else self._misspelt(value)
        for field, kind in zip(self._fields, self._plain, strict=True):
            if field.encode_name not in value:
                if field.required:
                    bad[field.encode_name] = "is missing"
                continue
            given = value[field.encode_name]
            if type(given) not in (list, dict) or _has_parts(kind):
                given = _numbers(given)
            known[field.encode_name] = given
            if _lone_surrogate(given):  # of which msgspec makes nothing, whatever the field is
                bad[field.encode_name] = "holds half of a UTF-16 pair"
                continue
            try:
                msgspec.convert(given, field.type, dec_hook=dec_hook)
            except msgspec.ValidationError as error:
                bad[field.encode_name] = _reason(error, kind)
        if bad:
            raise invalid(bad)
        try:
            return msgspec.convert(known, self.kind, dec_hook=dec_hook)
        except msgspec.ValidationError as error:
            raise invalid({"body": _reason(error, self.kind)}) from None


def _meant(name: str, names: list[str]) -> str | None:
    """The suggestion for an unknown name: a similar name, or one that begins with it; None if there is none."""
    plain = {_plain(one): one for one in names}
    given = _plain(name)
    near = difflib.get_close_matches(given, plain, 1, 0.75)
    if not near and len(given) >= MIN_PREFIX:
        near = [one for one in plain if one.startswith(given)]
    return f"did you mean {plain[near[0]]}?" if near else None


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]", "", name[:64]).lower()


def _is_each_key_once(body: bytes) -> bool:
    """Whether no object has a repeated key. May be False for a body without one.

    Compares the number of colons before and after orjson drops repeated keys: one per key, and those within strings (escaped
    ones, \\u003a, are not counted alike, so they make it False).
    """
    try:
        return b"\\u003" not in body and body.count(b":") == orjson.dumps(orjson.loads(body)).count(b":")
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # the latter for deep nesting
        return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ApiError(400, "An object in the body has the same key twice", code="malformed_json")
    return read


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, UnionType):
        return kind
    return reduce(or_, (one for one in get_args(kind) if one is not NoneType))


def _is_whole(kind: Any) -> bool:
    return kind is int or (get_origin(kind) is Annotated and get_args(kind)[0] is int)


def _has_parts(kind: Any) -> bool:
    """Whether a field may be an array or object. If not, its value need not be converted: it is wrong anyway."""
    base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return not isinstance(base, type) or issubclass(base, (list, dict, msgspec.Struct))


def _lone_surrogate(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return True
    return False


def _decimal(text: str) -> Decimal:
    """The number of a JSON text. One whose exponent no Decimal can have becomes infinite, or tiny: both fail validation."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return _TINY if "e-" in text.lower() else _INFINITE


_TINY = Decimal("1e-9999")
_INFINITE = Decimal("Infinity")


def _numbers(value: Any) -> Any:
    """A value of `_loads` with numbers as msgspec expects them.

    71.0 is an integer, as in JSON Schema; a number that no float represents exactly stays a Decimal.
    """
    kind: type[Any] = type(value)
    if kind is Decimal:
        number = float(value)
        if number.is_integer() and abs(number) < 2**53 and number == value:
            return int(number)
        return number if math.isfinite(number) and Decimal(repr(number)) == value else value
    if kind is dict:
        return {name: _numbers(part) for name, part in value.items()}
    if kind is list:
        return [_numbers(part) for part in value]
    return value


def _whole(text: str) -> int | Decimal:
    return int(text) if len(text) < 1000 else Decimal(text)


def _refuse_constant(_name: str) -> Any:
    raise ValueError("not JSON")


def _loads(body: bytes) -> Any:
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_once,
            parse_float=_decimal,
            parse_int=_whole,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise ApiError(400, "The body is not valid JSON", code="malformed_json") from None
    if _may_be_deep(body) and _is_deeper(value, MAX_DEPTH):
        raise _too_deep()
    return value


def _may_be_deep(body: bytes) -> bool:
    """False if the body can't be nested deeper than MAX_DEPTH: it is short, or has too few opening brackets and braces."""
    return len(body) > SHALLOW and body.count(b"[") + body.count(b"{") > MAX_DEPTH


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether arrays and objects are nested for more than `levels` levels."""
    inside = [value] if type(value) in _CONTAINERS else []
    for _ in range(levels):
        if not inside:
            return False
        inside = [
            part
            for each in inside
            for part in (each.values() if type(each) is dict else each)
            if type(part) in _CONTAINERS
        ]
    return bool(inside)


def _too_deep() -> ApiError:
    return ApiError(400, f"The body is nested deeper than {MAX_DEPTH} levels", code="malformed_json")


_CONTAINERS = (list, dict)

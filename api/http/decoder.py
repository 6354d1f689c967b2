"""The decoding of bodies and queries that names every bad field.

msgspec validates; it stops at the first error, so only when a body fails it is gone through again field by field.
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
MAX_EXPLAINED = 20  # names that are not known and looked at: a body may hold thousands
MAX_DEPTH = 128  # arrays and objects within one another
MIN_SHORT = 3  # letters of a name that another may be short for
_PLACE = re.compile(r" - at `\$(?:\.([A-Za-z0-9_]+))?.*`$")


_TYPES = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_WORDS = {
    "str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list",
    "object": "an object", "datetime": "a moment", "uuid": "a UUID",
}  # fmt: skip
MOMENT = "expected a moment with its offset from UTC, like 2026-01-31T12:00:00Z"


def _reason(error: msgspec.ValidationError, kind: Any) -> str:
    """msgspec's reason as part of a sentence, in JSON's words; one of ours may begin with a currency, which stays as it is."""
    message = _PLACE.sub("", str(error))
    if "matching regex" in message:
        return "must not hold the NUL character" if "u0000" in message else "has not the right form"
    if message.startswith("Invalid enum value") and (choices := _choices(kind)):
        return f"expected {' or '.join((', '.join(choices[:-1]), choices[-1]))}"
    if "RFC3339" in message or "timezone component" in message:
        return MOMENT
    message = _TYPES.sub(
        lambda found: " or ".join(_WORDS.get(one, one) for one in found[1].split(" | ")), message
    )
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _choices(kind: Any) -> list[str]:
    """The texts that a field takes, if it is a Literal of several."""
    kind = _without_none(kind)
    choices = list(get_args(kind)) if get_origin(kind) is Literal else []
    return [] if len(choices) < 2 else choices


class Decoder:
    """Decodes one request type; on failure answers 400 or 422 naming every bad field.

    A key twice in an object is 400. A field that is not known and reads like one that is, is a mistake and named; others are
    passed over, as they always were. `lenient` passes over all. The type's own `problems()`, if it has one, says what is wrong
    with its fields together.
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
        # With an unknown field the slow path decides.
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
        """The value in a JSON body; one whose fields may all be left out may be left out itself.

        Raises ApiError 400 for what is no JSON or deeper than MAX_DEPTH, 422 for what doesn't fit.
        """
        if not body and self._nothing:
            return self.kind()
        value = None
        if not _may_be_deep(body):
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
        """Of an object that was decoded. False also when it can't be told cheaply.

        Each key has its colon, so there are no more keys than colons, and no fewer than fields that have a value. If these are as
        many, no key comes twice and none stands in a string or within another object.
        """
        present = self._required
        for name, default in self._optional:
            present += getattr(value, name) is not default
        return body.count(b":") == present

    def strings(self, values: Mapping[str, str]) -> Any:
        """The value in text pairs (a query, a form): numbers are read from their text, `null` is a word."""
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
        """Parameters that nobody reads: a list would look filtered and not be."""
        names = [field.encode_name for field in self._fields]
        return {
            name: f"is unknown; {_meant(name, names) or 'known are ' + ', '.join(names)}"
            for name in given
            if name not in names
        }

    def _misspelt(self, given: Mapping[str, Any]) -> dict[str, str]:
        names = [field.encode_name for field in self._fields]
        left = [name for name in names if name not in given]
        # The same name in other letters, for the error message.
        spelt = {_plain(name): f"did you mean {name}?" for name in names}
        others = itertools.islice((name for name in given if name not in names), MAX_EXPLAINED)
        unknown = {name: spelt.get(_plain(name)) or _meant(name, left) for name in others}
        return {name: f"is unknown; {meant}" for name, meant in unknown.items() if meant is not None}

    def _by_field(self, value: Any) -> Any:
        """Raises ApiError 422 with each bad field; returns the value if only what nobody reads was odd."""
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
    """What a name that is not known was probably meant to be: one that reads alike, or that it is short for."""
    plain = {_plain(one): one for one in names}
    given = _plain(name)
    near = difflib.get_close_matches(given, plain, 1, 0.75)
    if not near and len(given) >= MIN_SHORT:
        near = [one for one in plain if one.startswith(given)]
    return f"did you mean {plain[near[0]]}?" if near else None


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]", "", name[:64]).lower()


def _is_each_key_once(body: bytes) -> bool:
    """False also when it can't be told cheaply. By colons: one a key, and those in strings, unless they are escaped."""
    try:
        return b"\\u003" not in body and body.count(b":") == orjson.dumps(orjson.loads(body)).count(b":")
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # the latter if it is nested deep
        return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ApiError(400, "The body has an object with the same key twice", code="malformed_json")
    return read


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, UnionType):
        return kind
    return reduce(or_, (one for one in get_args(kind) if one is not NoneType))


def _is_whole(kind: Any) -> bool:
    return kind is int or (get_origin(kind) is Annotated and get_args(kind)[0] is int)


def _has_parts(kind: Any) -> bool:
    """Whether a field may be an array or object; one given to another is wrong, however many numbers are in it."""
    base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return not isinstance(base, type) or issubclass(base, (list, dict, msgspec.Struct))


def _lone_surrogate(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return True
    return False


def _decimal(text: str) -> Decimal:
    """The number that a JSON text is. One whose exponent no Decimal has is as good as infinite, or has too many decimals."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return _TINY if "e-" in text.lower() else _INFINITE


_TINY = Decimal("1e-9999")
_INFINITE = Decimal("Infinity")


def _numbers(value: Any) -> Any:
    """A value of `_loads` with the numbers that msgspec expects.

    71.0 is an integer to JSON Schema, and so it is to us; what a float can't hold stays exact.
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
    """False for all that can't be deeper than MAX_DEPTH: what is short, or opens fewer arrays and objects."""
    return len(body) > 2 * MAX_DEPTH and body.count(b"[") + body.count(b"{") > MAX_DEPTH


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether arrays and objects lie within one another for more than so many levels."""
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

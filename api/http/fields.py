"""Field types of requests, and the decoding that names every bad field.

msgspec validates; it stops at the first error, so only when a body fails it is gone through again field by
field. The custom types here (`Amount`, `Currency`, `Email`, `Moment`) carry their check and their JSON schema, which
api/http/openapi.py reads from the same place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import MAXYEAR, MINYEAR, datetime
from decimal import Context, Decimal
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from api.http.currencies import CODES
from api.http.errors import ApiError, invalid

AMOUNT_INTEGER_DIGITS = 16
_AMOUNT = re.compile(rf"-?[0-9]{{1,{AMOUNT_INTEGER_DIGITS}}}(\.[0-9]{{1,2}})?")
_CENT = Decimal("0.01")
_PRECISE = Context(prec=AMOUNT_INTEGER_DIGITS + 4)


class Amount(Decimal):
    """Money: a decimal string or a JSON number, at most two decimals, not zero, bounded to the column."""

    @classmethod
    def parse(cls, value: Any) -> Amount:
        """Reads what JSON gave. Raises ValueError with the reason for the client."""
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
            raise ValueError("expected a decimal string or a number")
        if isinstance(value, str):
            if not _AMOUNT.fullmatch(value):
                raise ValueError("expected a decimal number with at most 2 decimals, like 12.50")
            number = Decimal(value)
        else:
            number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
            if not number.is_finite() or number.adjusted() >= AMOUNT_INTEGER_DIGITS:
                raise ValueError(f"expected at most {AMOUNT_INTEGER_DIGITS} digits before the point")
            number = _two_decimals(number)
        if number == 0:
            raise ValueError("must not be 0")
        return cls(number.quantize(_CENT, context=_PRECISE))

    SCHEMA: Mapping[str, Any] = {
        "description": "Decimal string or number, at most 2 decimals, not 0",
        "anyOf": [
            {
                "type": "string",
                "pattern": rf"^-?[0-9]{{1,{AMOUNT_INTEGER_DIGITS}}}(\.[0-9]{{1,2}})?$",
                "not": {"pattern": r"^-?0+(\.0{1,2})?$"},
            },
            {
                "type": "number",
                "multipleOf": 0.01,
                "exclusiveMinimum": -(10**AMOUNT_INTEGER_DIGITS),
                "exclusiveMaximum": 10**AMOUNT_INTEGER_DIGITS,
                "not": {"const": 0},
            },
        ],
        "examples": ["12.50"],
    }


def _two_decimals(number: Decimal) -> Decimal:
    cents = number.quantize(_CENT, context=_PRECISE)
    if cents == number:
        return cents
    # 0.1 + 0.2 arrives as 0.30000000000000004: what binary floats do to two decimals is the client's
    # language, not
    # its mistake. Only numbers written with 16 digits or more, one float step beside two decimals, are
    # taken so.
    if len(number.as_tuple().digits) >= 16:
        near = float(number)
        if abs(near - float(cents)) <= math.ulp(near):
            return cents
    raise ValueError("at most 2 decimals")


class Currency(str):
    """A currency by its ISO 4217 code, three capital letters."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: Any) -> Currency:
        """Raises ValueError unless the value is an active ISO 4217 code."""
        if not isinstance(value, str):
            raise ValueError("expected a string")
        if value not in CODES:
            raise ValueError("expected an ISO 4217 code, three letters, like EUR")
        return cls(value)

    SCHEMA: Mapping[str, Any] = {
        "type": "string",
        "description": "ISO 4217 code",
        "enum": sorted(CODES),
    }


_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")
EMAIL_MAX = 254


class Email(str):
    """An e-mail address without quotes or comments and with a dot in its domain, in lower case."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: Any) -> Email:
        """Raises ValueError unless the value looks like an address."""
        if not isinstance(value, str):
            raise ValueError("expected a string")
        if len(value) > EMAIL_MAX or not _EMAIL.fullmatch(value):
            raise ValueError("expected an e-mail address")
        return cls(value.lower())

    SCHEMA: Mapping[str, Any] = {
        "type": "string",
        "format": "email",
        "maxLength": EMAIL_MAX,
        "pattern": f"^{_EMAIL.pattern}$",
    }


class Moment(datetime):
    """A moment with its offset from UTC. The first and the last year are left out: there a moment may have no
    place in UTC, and their ends mean -infinity and infinity to PostgreSQL's driver."""

    @classmethod
    def parse(cls, value: Any) -> Moment:
        """Reads RFC 3339. Raises ValueError with the reason for the client."""
        moment = msgspec.convert(value, _ZONED)
        if not MINYEAR < moment.year < MAXYEAR:
            raise ValueError(f"expected a year from {MINYEAR + 1} to {MAXYEAR - 1}")
        return cls.combine(moment.date(), moment.timetz())

    SCHEMA: Mapping[str, Any] = {
        "type": "string",
        "format": "date-time",
        "not": {"pattern": f"^(0000|{MINYEAR:04}|{MAXYEAR})"},
    }


_ZONED = Annotated[datetime, msgspec.Meta(tz=True)]

CUSTOM = (Amount, Currency, Email, Moment)


def _text(low: int, high: int) -> Any:
    """Text of low to high characters without NUL, which PostgreSQL can't hold."""
    return Annotated[str, msgspec.Meta(min_length=low, max_length=high, pattern="^[^\\u0000]*$")]


Name = _text(0, 200)
Title = _text(1, 200)
Text = _text(0, 1000)


def dec_hook(kind: type, value: Any) -> Any:
    """msgspec's hook for the custom types."""
    if kind in CUSTOM:
        return kind.parse(value)
    raise TypeError(f"no field type {kind}")


_PLACE = re.compile(r" - at `\$(?:\.([A-Za-z0-9_]+))?.*`$")


def _reason(error: msgspec.ValidationError) -> str:
    message = _PLACE.sub("", str(error))
    return message[:1].lower() + message[1:]


class Decoder:
    """Decodes one request type; on failure answers 400 or 422 naming every bad field."""

    __slots__ = ("_decode", "_fields", "_plain", "kind")

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self.kind = kind
        self._decode = msgspec.json.Decoder(kind, dec_hook=dec_hook, float_hook=Decimal).decode
        self._fields = msgspec.structs.fields(kind)
        self._plain = [_without_none(field.type) for field in self._fields]

    def json(self, body: bytes) -> Any:
        """The value in a JSON body. Raises ApiError 400 for what is no JSON, 422 for what doesn't fit."""
        try:
            return self._decode(body)
        except msgspec.ValidationError:
            pass
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # _loads says whether it is JSON at all, or only holds what msgspec refuses
        return self._by_field(_loads(body))

    def strings(self, values: Mapping[str, str]) -> Any:
        """The value in text pairs (a query, a form): numbers are read from their text, `null` is a word."""
        bad: dict[str, str] = {}
        read: dict[str, Any] = {}
        for field, kind in zip(self._fields, self._plain, strict=True):
            given = values.get(field.encode_name)
            if given is None:
                if field.required:
                    bad[field.encode_name] = "is missing"
                continue
            try:
                # Only whole numbers need to be read from text: a moment must not be taken from "0.5".
                read[field.name] = msgspec.convert(given, kind, strict=not _is_whole(kind), dec_hook=dec_hook)
            except msgspec.ValidationError as error:
                bad[field.encode_name] = _readable(_reason(error))
        if bad:
            raise invalid(bad)
        return self.kind(**read)

    def _by_field(self, value: Any) -> Any:
        """Raises ApiError 422 with each bad field; returns the value if only what nobody reads was odd."""
        if not isinstance(value, dict):
            raise invalid({"body": "expected an object"})
        known: dict[str, Any] = {}
        bad: dict[str, str] = {}
        for field in self._fields:
            if field.encode_name not in value:
                if field.required:
                    bad[field.encode_name] = "is missing"
                continue
            given = known[field.encode_name] = value[field.encode_name]
            if _lone_surrogate(given):
                bad[field.encode_name] = "holds half of a UTF-16 pair"
                continue
            try:
                msgspec.convert(given, field.type, dec_hook=dec_hook)
            except msgspec.ValidationError as error:
                bad[field.encode_name] = _readable(_reason(error))
        if bad:
            raise invalid(bad)
        try:
            return msgspec.convert(known, self.kind, dec_hook=dec_hook)
        except msgspec.ValidationError as error:
            raise invalid({"body": _readable(_reason(error))}) from None


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, UnionType):
        return kind
    return reduce(or_, (one for one in get_args(kind) if one is not NoneType))


def _is_whole(kind: Any) -> bool:
    return kind is int or (get_origin(kind) is Annotated and get_args(kind)[0] is int)


def _readable(reason: str) -> str:
    if "matching regex" in reason:
        return "must not hold the NUL character" if "u0000" in reason else "has not the right form"
    return reason


def _lone_surrogate(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return True
    return False


def _fraction(text: str) -> int | float | Decimal:
    """71.0 is an integer to JSON Schema, and so it is to us; what a float can't hold stays exact."""
    number = float(text)
    if number.is_integer() and abs(number) < 2**53:
        return int(number)
    return number if len(text) < 16 and math.isfinite(number) else Decimal(text)


def _whole(text: str) -> int | Decimal:
    return int(text) if len(text) < 1000 else Decimal(text)


def _refuse_constant(_name: str) -> Any:
    raise ValueError("not JSON")


def _loads(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode(), parse_float=_fraction, parse_int=_whole, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not valid JSON", code="malformed_json") from None

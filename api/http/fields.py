"""Field types of requests: custom types for msgspec, and text types that several requests share.

`Amount`, `Currency`, `Email` and `Timestamp` define their validation and their JSON schema, which api/http/openapi.py uses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from decimal import Context, Decimal, Inexact, Underflow
from typing import Annotated, Any

import msgspec

from actors import settings
from schema.currencies import CODES, FOR_TESTS, MAX_DECIMALS, decimals, unit

AMOUNT_INTEGER_DIGITS = 16
AMOUNT_LENGTH = 64  # characters that are examined
_DECIMAL = re.compile(r"-?([0-9]+)(?:\.[0-9]+)?")
_AMOUNT = re.compile(rf"-?[0-9]{{1,{AMOUNT_INTEGER_DIGITS}}}(?:\.[0-9]{{1,{MAX_DECIMALS}}})?")


class Amount(Decimal):
    """Money: a decimal string or a JSON number, not zero, within the column's bounds.

    How many decimals it may have depends on the currency (`problem_in`).
    """

    @classmethod
    def parse(cls, value: Any) -> Amount:
        """The amount of a JSON value. Raises ValueError with the reason for the client."""
        if isinstance(value, str):
            if _AMOUNT.fullmatch(value) is None:
                raise ValueError(_why_no_amount(value))
            number = cls(value)
        elif isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
            raise ValueError("expected a decimal string or a number")
        else:
            number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
            if not number.is_finite() or number.adjusted() >= AMOUNT_INTEGER_DIGITS:
                raise ValueError(TOO_LARGE)
            number = _shortest(number)
            if places(number) > MAX_DECIMALS:
                raise ValueError(f"at most {MAX_DECIMALS} decimals")
        if not number:
            raise ValueError("must not be 0")
        return number if isinstance(number, cls) else cls(number.normalize(_WIDE))

    def problem_in(self, currency: str) -> str | None:
        """Why this is no amount in the currency, None if it is one.

        All decimals of a string count, trailing zeros included; of a number, those that it needs.
        """
        if self.same_quantum(unit(currency)):  # nearly every one
            return None
        allowed = decimals(currency)
        exponent = self.as_tuple().exponent
        if isinstance(exponent, int) and -exponent <= allowed:
            return None
        return f"{currency} has no decimals" if allowed == 0 else f"{currency} has at most {allowed} decimals"

    def of(self, currency: str) -> Decimal:
        """The amount with exactly the decimals of this currency."""
        return self.quantize(unit(currency), context=_EXACT)

    @staticmethod
    def schema(places: int) -> dict[str, Any]:
        """The JSON schema of amounts with at most this many decimals.

        It can't limit the decimals of a number: `multipleOf` is evaluated in floats, where 0.57 is no multiple of 0.01.
        """
        fraction = rf"(\.[0-9]{{1,{places}}})?" if places else ""
        return {
            "anyOf": [
                {
                    "type": "string",
                    "pattern": rf"^-?[0-9]{{1,{AMOUNT_INTEGER_DIGITS}}}{fraction}(?![\s\S])",
                    "not": {"pattern": r"^-?0+(\.0+)?(?![\s\S])"},
                },
                {
                    "type": "number" if places else "integer",
                    "exclusiveMinimum": -(10**AMOUNT_INTEGER_DIGITS),
                    "exclusiveMaximum": 10**AMOUNT_INTEGER_DIGITS,
                    "not": {"const": 0},
                },
            ]
        }

    SCHEMA: Mapping[str, Any] = {
        "description": "Decimal string or number with at most the decimals that ISO 4217 gives the currency "
        "(none for JPY, 3 for KWD, 2 for most), not 0. A number counts as its shortest decimal and is never rounded.",
        **schema(MAX_DECIMALS),
        "examples": ["12.50"],
    }


def _why_no_amount(text: str) -> str:
    found = _DECIMAL.fullmatch(text[:AMOUNT_LENGTH])
    if found is None:
        return "expected a decimal number, like 12.50"
    return TOO_LARGE if len(found[1]) > AMOUNT_INTEGER_DIGITS else f"at most {MAX_DECIMALS} decimals"


TOO_LARGE = f"is too large: at most {AMOUNT_INTEGER_DIGITS} digits before the decimal point"
_EXACT = Context(prec=AMOUNT_INTEGER_DIGITS + MAX_DECIMALS)


def places(number: Decimal) -> int:
    """How many decimals a number needs; MAX_DECIMALS + 1 for one with more digits than any amount can have."""
    try:
        exponent = number.normalize(_WIDE).as_tuple().exponent
    except ArithmeticError:
        return MAX_DECIMALS + 1
    return max(0, -exponent) if isinstance(exponent, int) else 0


_WIDE = Context(prec=40, traps=[Inexact, Underflow])


def _shortest(number: Decimal) -> Decimal:
    """The shortest decimal of the float that a JSON number was written from.

    Some languages write all 17 digits of a float, 0.57 as 0.56999999999999995: that is the same float, so 0.57 is meant. A number
    that is no such text of a float is returned unchanged.
    """
    if places(number) <= MAX_DECIMALS:
        return number
    near = float(number)
    if math.isfinite(near) and Decimal(f"{near:.17g}") == number:
        return Decimal(repr(near))
    return number


class Currency(str):
    """A currency by its ISO 4217 code, three capital letters."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: Any) -> Currency:
        """The currency of a JSON value. Raises ValueError unless it is an active ISO 4217 code; in prod and dev not for tests."""
        if not isinstance(value, str):
            raise ValueError("expected a string")
        known = _CURRENCIES.get(value)
        if known is not None:
            return known
        if value not in CODES:
            raise ValueError("expected an ISO 4217 code, three letters, like EUR")
        if value in FOR_TESTS and settings.current().bitnexus_env != "test":
            raise ValueError(f"{value} is not a currency")
        return cls(value)

    SCHEMA: Mapping[str, Any] = {
        "type": "string",
        "description": "ISO 4217 code",
        "enum": sorted(CODES - FOR_TESTS),
    }


_CURRENCIES = {code: Currency(code) for code in CODES - FOR_TESTS}

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")
EMAIL_MAX = 254


class Email(str):
    """An e-mail address in lower case, without quotes or comments and with a dot in its domain."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: Any) -> Email:
        """The address of a JSON value. Raises ValueError unless it looks like one."""
        if not isinstance(value, str):
            raise ValueError("expected a string")
        if len(value) > EMAIL_MAX or not _EMAIL.fullmatch(value):
            raise ValueError("expected an e-mail address")
        return cls(value.lower())

    SCHEMA: Mapping[str, Any] = {
        "type": "string",
        "format": "email",
        "maxLength": EMAIL_MAX,
        "pattern": f"^{_EMAIL.pattern}(?![\\s\\S])",
    }


class Timestamp(datetime):
    """A timestamp with its offset from UTC.

    The first and the last year are excluded: converted to UTC, a timestamp there may be out of range, and asyncpg takes the ends
    of the range for -infinity and infinity.
    """

    @classmethod
    def parse(cls, value: Any) -> Timestamp:
        """The timestamp of RFC 3339 text. Raises ValueError with the reason for the client."""
        moment = msgspec.convert(value, Zoned)
        try:
            years = {moment.year, moment.astimezone(UTC).year}
        except OverflowError:
            years = {MINYEAR}
        if not all(MINYEAR < year < MAXYEAR for year in years):
            raise ValueError(f"expected a year from {MINYEAR + 1} to {MAXYEAR - 1}")
        return cls.combine(moment.date(), moment.timetz())

    SCHEMA: Mapping[str, Any] = {
        "type": "string",
        "format": "date-time",
        "not": {"pattern": f"^(0000|{MINYEAR:04}|{MAXYEAR})"},
    }


Zoned = Annotated[datetime, msgspec.Meta(tz=True)]  # a timestamp in responses, with format `date-time`

# A currency in responses: stored values are not validated again.
CurrencyText = Annotated[str, msgspec.Meta(examples=["EUR"])]

CUSTOM = (Amount, Currency, Email, Timestamp)
_PARSERS: Mapping[type, Callable[[Any], Any]] = {kind: kind.parse for kind in CUSTOM}


def _text(low: int, high: int) -> msgspec.Meta:
    """Constrains text to `low` to `high` characters, without NUL, which PostgreSQL can't store."""
    return msgspec.Meta(min_length=low, max_length=high, pattern="^[^\\u0000]*$")


Name = Annotated[str, _text(0, 200)]
Title = Annotated[str, _text(1, 200)]
Text = Annotated[str, _text(0, 1000)]


def dec_hook(kind: type, value: Any) -> Any:
    """msgspec's decoding hook for the custom types."""
    if (parse := _PARSERS.get(kind)) is not None:
        return parse(value)
    raise TypeError(f"no field type {kind}")

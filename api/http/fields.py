"""Field types of requests: what msgspec does not know, and the texts that several requests have.

`Amount`, `Currency`, `Email` and `Moment` carry their check and their JSON schema, which api/http/openapi.py reads from the
same place.
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
AMOUNT_LENGTH = 64  # characters that are looked at
_DECIMAL = re.compile(r"-?([0-9]+)(?:\.[0-9]+)?")
_AMOUNT = re.compile(rf"-?[0-9]{{1,{AMOUNT_INTEGER_DIGITS}}}(?:\.[0-9]{{1,{MAX_DECIMALS}}})?")


class Amount(Decimal):
    """Money: a decimal string or a JSON number, not zero, within the column's bounds.

    How many decimals it may have is the currency's to say (`misfit`).
    """

    @classmethod
    def parse(cls, value: Any) -> Amount:
        """Reads what JSON gave. Raises ValueError with the reason for the client."""
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

    def misfit(self, currency: str) -> str | None:
        """Why this is no amount in that currency; None when it is one.

        All decimals of a string count, those of a number that it needs.
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

        It can't count those of a number: `multipleOf` reckons in floats, of which 0.57 is no multiple of 0.01.
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


TOO_LARGE = f"is too large: at most {AMOUNT_INTEGER_DIGITS} digits before the point"
_EXACT = Context(prec=AMOUNT_INTEGER_DIGITS + MAX_DECIMALS)


def places(number: Decimal) -> int:
    """The decimals that a number needs; of one with more digits than any amount can have, more than any may have."""
    try:
        exponent = number.normalize(_WIDE).as_tuple().exponent
    except ArithmeticError:
        return MAX_DECIMALS + 1
    return max(0, -exponent) if isinstance(exponent, int) else 0


_WIDE = Context(prec=40, traps=[Inexact, Underflow])


def _shortest(number: Decimal) -> Decimal:
    """The shortest decimal of the number that a JSON text stands for.

    Some languages write all 17 digits of a float, 0.57 as 0.56999999999999995: that is the same float, so 0.57 is meant. A text
    that no float is written as stays what it is.
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
        """Raises ValueError unless the value is an active ISO 4217 code, of a currency that there is."""
        if not isinstance(value, str):
            raise ValueError("expected a string")
        known = _CURRENCIES.get(value)
        if known is not None:
            return known
        if value not in CODES:
            raise ValueError("expected an ISO 4217 code, three letters, like EUR")
        if value in FOR_TESTS and settings.current().bitnexus_env != "test":
            raise ValueError(f"{value} is no currency")
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
        "pattern": f"^{_EMAIL.pattern}(?![\\s\\S])",
    }


class Moment(datetime):
    """A moment with its offset from UTC.

    The first and the last year are left out: there a moment may have no place in UTC, and their ends mean -infinity and infinity
    to PostgreSQL's driver.
    """

    @classmethod
    def parse(cls, value: Any) -> Moment:
        """Reads RFC 3339. Raises ValueError with the reason for the client."""
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


Zoned = Annotated[datetime, msgspec.Meta(tz=True)]  # of answers; described as `date-time`

# A currency in answers: what is stored is not checked again.
CurrencyText = Annotated[str, msgspec.Meta(examples=["EUR"])]

CUSTOM = (Amount, Currency, Email, Moment)
_PARSERS: Mapping[type, Callable[[Any], Any]] = {kind: kind.parse for kind in CUSTOM}


def _text(low: int, high: int) -> msgspec.Meta:
    """Text of low to high characters without NUL, which PostgreSQL can't hold."""
    return msgspec.Meta(min_length=low, max_length=high, pattern="^[^\\u0000]*$")


Name = Annotated[str, _text(0, 200)]
Title = Annotated[str, _text(1, 200)]
Text = Annotated[str, _text(0, 1000)]


def dec_hook(kind: type, value: Any) -> Any:
    """msgspec's hook for the custom types."""
    if (parse := _PARSERS.get(kind)) is not None:
        return parse(value)
    raise TypeError(f"no field type {kind}")

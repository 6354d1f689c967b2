"""The active currency codes of ISO 4217, list one, as published on 2026-01-01, and their minor units.

The table of schema/migrations/0011_minor_units.sql is the same, for what other programs write; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

_LIST = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD
    CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL
    GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW
    KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD
    NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP
    SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS
    VED VES VND VUV WST XAD XAF XAG XAU XBA XBB XBC XBD XCD XCG XDR XOF XPD XPF XPT XSU XTS XUA XXX YER
    ZAR ZMW ZWG
"""

# Of all that have not two; where the list says "N.A.", there is no minor unit.
_DECIMALS: Mapping[int, str] = {
    0: """BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF
          XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX""",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
DEFAULT_DECIMALS = 2
MAX_DECIMALS = 4

CODES: frozenset[str] = frozenset(_LIST.split())
# The code for testing, and the one for no currency at all.
FOR_TESTS: frozenset[str] = frozenset({"XTS", "XXX"})
DECIMALS: Mapping[str, int] = dict.fromkeys(sorted(CODES), DEFAULT_DECIMALS) | {
    code: decimals for decimals, codes in _DECIMALS.items() for code in codes.split()
}

_UNITS: Mapping[str, Decimal] = {code: Decimal(1).scaleb(-decimals) for code, decimals in DECIMALS.items()}
_DEFAULT_UNIT = Decimal(1).scaleb(-DEFAULT_DECIMALS)


def decimals(currency: str) -> int:
    """How many decimals an amount of this currency has."""
    return DECIMALS.get(currency, DEFAULT_DECIMALS)


def unit(currency: str) -> Decimal:
    """The smallest amount of this currency: 0.01 EUR, 1 JPY."""
    return _UNITS.get(currency, _DEFAULT_UNIT)


def by_decimals() -> dict[int, list[str]]:
    """The currencies that there are, by how many decimals they have."""
    return {
        places: [code for code in sorted(CODES - FOR_TESTS) if DECIMALS[code] == places]
        for places in sorted(set(DECIMALS.values()))
    }

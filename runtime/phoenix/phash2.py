"""`erlang:phash2/2` of a binary: a hash that is the same on every node and in every release.

The hash is Bob Jenkins' `lookup2` (1996) over 32-bit words, as OTP uses it for binaries.
"""

from __future__ import annotations

from typing import Final

_GOLDEN_RATIO: Final = 0x9E3779B9
_BINARY: Final = 0x08D12E65  # OTP's initial value for binaries
_WORD: Final = 0xFFFFFFFF
_SHIFTS: Final = ((13, 8, 13), (12, 16, 5), (3, 10, 15))


def phash2(data: bytes | str, limit: int) -> int:
    """`erlang:phash2(Binary, Range)`: a number from 0 to `limit` - 1. A string is hashed as UTF-8."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    return (_hash(data) if data else _BINARY) % limit


def _hash(data: bytes) -> int:
    a, b, c = _GOLDEN_RATIO, _GOLDEN_RATIO, _BINARY
    rest = len(data) % 12
    whole = len(data) - rest
    for start in range(0, whole, 12):
        a, b, c = _mix(
            a + int.from_bytes(data[start : start + 4], "little"),
            b + int.from_bytes(data[start + 4 : start + 8], "little"),
            c + int.from_bytes(data[start + 8 : start + 12], "little"),
        )
    tail = data[whole:]
    # The lowest byte of the last word holds the length.
    return _mix(
        a + int.from_bytes(tail[:4], "little"),
        b + int.from_bytes(tail[4:8], "little"),
        c + len(data) + (int.from_bytes(tail[8:], "little") << 8),
    )[2]


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a, b, c = a & _WORD, b & _WORD, c & _WORD
    for first, second, third in _SHIFTS:
        a = ((a - b - c) ^ (c >> first)) & _WORD
        b = ((b - c - a) ^ (a << second)) & _WORD
        c = ((c - a - b) ^ (b >> third)) & _WORD
    return a, b, c

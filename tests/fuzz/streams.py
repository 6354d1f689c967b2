"""Byte streams: known ones, cut, spliced, repeated and changed. The same seed gives the same streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

LARGEST: Final = 65_535  # bytes; below it an input must be cheap
LARGE_ONE_OF: Final = 256  # streams that are blown up to some size below LARGEST


def mutations(seeds: Sequence[bytes], parts: Sequence[bytes], random: Random) -> Callable[[], bytes]:
    """Makes the next stream out of whole `seeds` and `parts` that mean something to the reader."""

    def assembled() -> bytes:
        return b"".join(random.choices(parts, k=random.randrange(1, 14)))

    def changed(data: bytes) -> bytes:
        out = bytearray(data)
        for _ in range(random.randrange(1, 5)):
            size = len(out)
            at = random.randrange(size + 1)
            match random.randrange(7):
                case 0 if size:
                    out[at % size] = random.randrange(256)
                case 1 if size:
                    out[at % size] ^= 1 << random.randrange(8)
                case 2:
                    del out[at : at + random.randrange(1, 9)]
                case 3:
                    out[at:at] = random.choice(parts)
                case 4:
                    out[at:at] = out[at : at + random.randrange(1, 33)]
                case 5:
                    out[at : at + random.randrange(9)] = random.choice(parts)
                case _:
                    out[at:] = random.choice(seeds)[random.randrange(8) :]
        return bytes(out)

    def large(data: bytes) -> bytes:
        if not data:
            return data
        at = random.randrange(len(data))
        part = data[at : at + random.randrange(1, 65)] if random.randrange(2) else random.choice(parts)
        room = random.randrange(LARGEST - min(LARGEST, len(data)) + 1)
        return data[:at] + part * (room // max(1, len(part))) + data[at:]

    def stream() -> bytes:
        data = random.choice(seeds) if random.randrange(3) else assembled()
        if random.randrange(8):
            data = changed(data)
        if not random.randrange(LARGE_ONE_OF):
            data = large(data)
        return data[:LARGEST]

    return stream

"""The memory of the server's process: which regions go to huge pages, and that their data stay what they are."""

from __future__ import annotations

import ctypes
import mmap
import threading

from api.cli import memory

HUGE = 4 << 20  # bytes; no huge page that is used is larger

MAPS = """\
55d0c0a00000-55d0c0a01000 r--p 00000000 fe:00 1234                       /usr/bin/python3.11
55d0c2000000-55d0c4200000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
7f0000800000-7f0000c00000 rw-s 00000000 00:01 77                         /dev/shm/shared buffers
7f0001000000-7f0001400000 rw-p 00000000 fe:00 1235                       /usr/lib/libpython3.11.so.1.0
7f0002000000-7f0002400000 ---p 00000000 00:00 0
7ffe1f3e0000-7ffe1f401000 rw-p 00000000 00:00 0                          [stack]
"""


def test_data_are_what_is_private_and_of_no_file() -> None:
    assert list(memory.data_regions(MAPS.splitlines())) == [
        (0x55D0C2000000, 0x55D0C4200000),
        (0x7F0000000000, 0x7F0000400000),
    ]


def moved_now() -> None:
    memory.use_huge_pages(after=0)
    for thread in threading.enumerate():
        if thread.name == "huge pages":
            thread.join()


def test_what_is_moved_to_huge_pages_stays_the_same() -> None:
    blocks = [bytearray(number.to_bytes(2, "big") * 1000) for number in range(4000)]
    moved_now()
    assert all(block == number.to_bytes(2, "big") * 1000 for number, block in enumerate(blocks))


def test_pages_that_nobody_touched_do_not_become_resident() -> None:
    """As of a thread's stack: 8 MiB that are mapped, some pages of which are used."""
    size = 16 << 20
    region = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for place in range(0, size, 1 << 20):
        region[place] = 1
    # Away from both ends: those may share a huge page with what others have filled.
    start = (ctypes.addressof(ctypes.c_char.from_buffer(region)) // HUGE + 1) * HUGE
    # More than was touched where the kernel always gives huge pages.
    before = memory.resident(start, size // 2)
    moved_now()
    assert memory.resident(start, size // 2) == before

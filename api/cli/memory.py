"""The memory of the server's process: returned to the system when it is freed, in huge pages where it stays.

All of it is for Linux with glibc, and does nothing elsewhere.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

M_MMAP_THRESHOLD, LARGE_BLOCK = -3, 16 * 1024  # of <malloc.h>; bytes
MADV_COLLAPSE: Final = 25  # of <sys/mman.h>; Linux 6.1
SETTLED_SECONDS: Final = 5.0
FULL: Final = 7 / 8  # of a huge page, from which on it is worth one: the rest becomes resident as well
_HUGE_PAGE_SIZE: Final = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
_LARGEST: Final = 4 << 20  # bytes; where huge pages are larger, the process does not fill them


def return_memory() -> None:
    """Makes glibc return large blocks to the system as soon as they are freed.

    By default glibc raises its mmap threshold to the size of freed blocks: memory of large bodies, or of password hashes (7 MiB),
    would stay with the process. Smaller blocks are in the heap, of which only the end is returned.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def use_huge_pages(after: float = SETTLED_SECONDS) -> None:
    """Has the kernel move the process's data to transparent huge pages, `after` seconds from now, by a thread within some 0.1 s.

    For when all modules are loaded. A server that is woken for each request finds the processor's caches cold; with pages of
    4 KiB each object it touches may miss the TLB as well. One that is stopped at once need not pay for it.
    """
    timer = threading.Timer(after, _collapse)
    timer.name, timer.daemon = "huge pages", True
    timer.start()


def _collapse() -> None:
    with suppress(AttributeError, OSError, ValueError):
        size = int(_HUGE_PAGE_SIZE.read_text())
        if size > _LARGEST:
            return
        madvise = ctypes.CDLL(None).madvise  # releases the interpreter's lock
        for start, end in data_regions(Path("/proc/self/maps").read_text().splitlines()):
            first = (start + size - 1) // size * size
            for page in range(first, end - size + 1, size):
                if resident(page, size) >= FULL * size:
                    madvise(ctypes.c_void_p(page), ctypes.c_size_t(size), MADV_COLLAPSE)


def resident(start: int, size: int) -> int:
    """Bytes of it in memory (mincore(2)). Of a thread's stack, or of an arena that was once full, that is little."""
    pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    if ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), pages):
        return 0  # unmapped since the list was read
    return mmap.PAGESIZE * sum(page & 1 for page in pages)


def data_regions(maps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """The private, writable regions that belong to no file, as (start, end), of the lines of /proc/PID/maps (proc(5))."""
    for line in maps:
        addresses, permissions, _offset, _device, inode, *name = line.split(maxsplit=5)
        if permissions == "rw-p" and inode == "0" and (not name or name[0] == "[heap]"):
            start, _, end = addresses.partition("-")
            yield int(start, 16), int(end, 16)

"""Heavy steps take turns: the loop makes one of them between two looks at its sockets.

A step of some milliseconds is harmless alone. A hundred clients that cause one each would hold the loop for all of
them together, since it runs whatever is ready before it reads again. So whoever is about to make such a step waits
for its turn, first come, first served, and between two of them everybody else is served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final
from weakref import WeakKeyDictionary

HEAVY: Final = 64 * 1024  # bytes of input from which on reading them at once is a heavy step

Line = deque["asyncio.Future[None]"]

_lines: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Line]] = WeakKeyDictionary()


async def take() -> None:
    """Returns when it is the caller's turn to make one heavy step, up to its next await."""
    loop = asyncio.get_running_loop()
    line = _lines.get(loop)
    if line is None:
        line = _lines[loop] = deque()
    turn: asyncio.Future[None] = loop.create_future()
    line.append(turn)
    if len(line) == 1:
        loop.call_soon(_next, loop, line)
    await turn


def _next(loop: asyncio.AbstractEventLoop, line: Line) -> None:
    # Scheduled exactly while somebody is in line. Who was cancelled has no turn.
    while line:
        turn = line.popleft()
        if not turn.done():
            turn.set_result(None)
            break
    if line:
        loop.call_soon(_next, loop, line)

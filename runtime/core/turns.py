"""Turns for heavy steps: the loop runs one heavy step between two polls of its sockets.

A step of some milliseconds is harmless alone, but the loop runs all callbacks that are ready before it polls again: a hundred
clients with one heavy step each would block it for the sum. So each heavy step first awaits `take()`, first come, first served,
and other callbacks run in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final
from weakref import WeakKeyDictionary

HEAVY: Final = 64 * 1024  # bytes; parsing as much input at once is a heavy step

Line = deque["asyncio.Future[None]"]

_lines: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Line]] = WeakKeyDictionary()


async def take() -> None:
    """Waits for the caller's turn to run one heavy step, up to its next await."""
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
    # Scheduled exactly while the line is not empty. Cancelled waiters get no turn.
    while line:
        turn = line.popleft()
        if not turn.done():
            turn.set_result(None)
            break
    if line:
        loop.call_soon(_next, loop, line)

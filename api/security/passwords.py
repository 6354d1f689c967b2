"""Password hashes: argon2id, computed in threads so that they don't block the event loop.

At most `THREADS` run at a time, since each fills a core, and together they use at most `MEMORY`; a hash made with other
parameters takes the memory that these name. Each caller has a queue, and the queues take turns: a caller that sends a hundred
guesses delays only itself. Beyond `WAITING_EACH` of one caller, or `WAITING` in all, the answer is 503.

Passwords are normalized to NFKC (SP 800-63B 5.1.1.2), so that they are the same whichever keyboard composed them. Hashes of
unnormalized text go on working, and are replaced at the next sign-in.
"""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from api.http.errors import unavailable

THREADS: Final = 2
MEMORY: Final = 19_456  # KiB of all hashes at a time: two with these parameters, or one of an earlier version
WAITING: Final = 256
WAITING_EACH: Final = 8
MIN_LENGTH, MAX_LENGTH = 8, 1000  # characters of a new password

# OWASP's parameters for argon2id with the least memory (7 MiB, five passes) and two passes more: it takes as long as a hash with
# 19 MiB and two passes, which earlier versions made. So nobody can tell by the time whether an account with an old hash exists.
_HASHER = argon2.PasswordHasher(time_cost=7, memory_cost=7168, parallelism=1)
# Checked when the account is unknown, so that the answer takes the same time.
_NOBODY = _HASHER.hash(secrets.token_hex(16))


def hash_password(password: str) -> str:
    """The argon2id hash of a password. Takes some 20 ms of CPU; on the event loop use `Passwords.hash`."""
    return _HASHER.hash(_normal(password).encode("utf-8", "surrogatepass"))


class Passwords:
    """Hashes and checks passwords for one server. `caller` names the queue that a computation waits in."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._queues: OrderedDict[Hashable, deque[tuple[asyncio.Future[None], int]]] = OrderedDict()
        self._waiting = 0
        self._running = 0
        self._used = 0  # KiB, by running computations

    async def hash(self, password: str, caller: Hashable) -> str:
        """The argon2id hash of a new password. Raises ApiError 503 when too many wait."""
        return await self._in_turn(caller, _HASHER.memory_cost, hash_password, password)

    async def check(self, stored: str | None, password: str, caller: Hashable) -> tuple[bool, str | None]:
        """Whether the password matches, and a new hash if the stored one has old parameters or is of unnormalized text.

        `stored` None (no such account) takes as long and never matches. Raises ApiError 503 when too many wait.
        """
        return await self._in_turn(caller, _memory(stored), _check, stored, password)

    async def _in_turn(self, caller: Hashable, memory: int, work: Callable[..., Any], *args: Any) -> Any:
        await self._turn(caller, memory)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._end(memory)

    async def _turn(self, caller: Hashable, memory: int) -> None:
        if not self._queues and self._has_room(memory):
            self._begin(memory)
            return
        queue = self._queues.get(caller)
        if self._waiting >= WAITING or (queue is not None and len(queue) >= WAITING_EACH):
            raise unavailable("Too many sign-ins at once; try again soon", code="overloaded")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append((turn, memory))
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # our turn had come already: pass it on
                self._end(memory)
            raise

    def _has_room(self, memory: int) -> bool:
        return not self._running or (self._running < THREADS and self._used + memory <= MEMORY)

    def _begin(self, memory: int) -> None:
        self._running += 1
        self._used += memory

    def _end(self, memory: int) -> None:
        self._running -= 1
        self._used -= memory
        self._next()

    def _next(self) -> None:
        """Starts what there is room for. Nobody overtakes one that needs more memory than is left: it might wait for ever."""
        while self._queues:
            caller, queue = next(iter(self._queues.items()))
            turn, memory = queue[0]
            if not turn.cancelled():
                if not self._has_room(memory):
                    return
                self._begin(memory)
                turn.set_result(None)
            queue.popleft()
            self._waiting -= 1
            del self._queues[caller]
            if queue:
                self._queues[caller] = queue  # behind the other callers

    def close(self) -> None:
        """Ends the threads, without waiting for running computations."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def problem(password: str) -> str | None:
    """Why this can't be a new password, None if it can. The normalized characters count."""
    if MIN_LENGTH <= len(_normal(password)) <= MAX_LENGTH:
        return None
    return f"expected {MIN_LENGTH} to {MAX_LENGTH} characters"


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _memory(stored: str | None) -> int:
    """The KiB that it takes to check a stored hash and, if need be, to compute a new one."""
    with suppress(InvalidHashError):
        if stored is not None:
            return max(_HASHER.memory_cost, argon2.extract_parameters(stored).memory_cost)
    return _HASHER.memory_cost


def _check(stored: str | None, password: str) -> tuple[bool, str | None]:
    normal = _normal(password)
    fits = _fits(stored, normal)
    # A hash from before passwords were normalized.
    if not fits and normal != password and _fits(stored, password):
        return stored is not None, hash_password(password)
    if not fits or stored is None:
        return False, None
    return True, hash_password(password) if _HASHER.check_needs_rehash(stored) else None


def _fits(stored: str | None, password: str) -> bool:
    try:
        _HASHER.verify(stored if stored is not None else _NOBODY, password.encode("utf-8", "surrogatepass"))
    except (VerifyMismatchError, VerificationError, InvalidHashError):
        return False
    return True

"""Password hashes: argon2id, made and checked in threads so that the loop goes on.

At most `THREADS` at a time, since each fills a core and 19 MiB; when more than `WAITING` wait, sign-in
answers 503 rather than letting a flood of guesses take the machine.
"""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor

import argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from api.http.errors import unavailable

THREADS = 2
WAITING = 64

# OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
# Checked when the account is unknown, so that the answer takes the same time.
_NOBODY = _HASHER.hash(secrets.token_hex(16))


def hash_password(password: str) -> str:
    """The argon2id hash of a password. Takes some 20 ms; on the loop use `Passwords.hash`."""
    return _HASHER.hash(password.encode("utf-8", "surrogatepass"))


class Passwords:
    """Hashes and checks passwords for one server."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The argon2id hash of a new password."""
        return await self._in_thread(hash_password, password)

    async def check(self, stored: str | None, password: str) -> tuple[bool, str | None]:
        """Whether the password fits, and a new hash when the stored one was made with older costs.

        `stored` None (no such account) takes as long and never fits. Raises ApiError 503 when too many wait.
        """
        return await self._in_thread(_check, stored, password)

    async def _in_thread(self, work, *args):  # type: ignore[no-untyped-def]
        if self._waiting >= WAITING:
            raise unavailable("Too many sign-ins at once; try again soon", code="overloaded")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Ends the threads; what they do is waited for by nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _check(stored: str | None, password: str) -> tuple[bool, str | None]:
    secret = password.encode("utf-8", "surrogatepass")
    try:
        _HASHER.verify(stored if stored is not None else _NOBODY, secret)
    except (VerifyMismatchError, VerificationError, InvalidHashError):
        return False, None
    if stored is None:
        return False, None
    return True, _HASHER.hash(secret) if _HASHER.check_needs_rehash(stored) else None

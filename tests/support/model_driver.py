"""A model of asyncpg in front of a model database: connections and a pool that fail as links and servers do.

The seed chooses the outcome of each statement (`Faults`): it is answered, soon or late; its connection ends before or after it is
executed; its answer is lost; it stalls until the caller gives up; PostgreSQL refuses it. A statement that was sent is executed
even if the client has died meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

import asyncpg

from actors.storage.pgbouncer import BACKEND
from tests.support.model_database import ModelDatabase, Record, failure

QUICK = 0.02  # seconds that a statement, a connect or a NOTIFY takes at most without a fault
SERVER_SECONDS = 4.0  # PostgreSQL's statement_timeout
OUTCOMES = ("answered", "cut before", "cut after", "deaf", "stalled", "late", "refused")
REFUSALS = (("55P03", "canceling statement due to lock timeout"), ("40P01", "deadlock detected"))


class Faults:
    """The faults of one server's database: the weights of OUTCOMES, and until when connections are refused (virtual seconds)."""

    def __init__(self, rng: Random, weights: tuple[float, ...]) -> None:
        self.rng, self.weights = rng, weights
        self.enabled = True
        self.closed_until = 0.0

    def outcome(self) -> str:
        """The outcome of the next statement."""
        return self.rng.choices(OUTCOMES, self.weights)[0] if self.enabled else OUTCOMES[0]

    def pause(self) -> float:
        """A random delay without a fault, in seconds."""
        return self.rng.random() * QUICK


class ModelDriver:
    """The model of the module `asyncpg`, for one server. `connections` are the open ones."""

    def __init__(self, database: ModelDatabase, faults: Faults) -> None:
        self.database, self.faults = database, faults
        self.connections: dict[ModelConnection, None] = {}
        self._numbers = 0

    async def connect(self, _dsn: str, *, command_timeout: float = 10.0, **_options: Any) -> ModelConnection:
        """asyncpg.connect. Raises ConnectionRefusedError while connections are refused."""
        await asyncio.sleep(self.faults.pause())
        if asyncio.get_running_loop().time() < self.faults.closed_until:
            raise ConnectionRefusedError
        self._numbers += 1
        opened = ModelConnection(self, self._numbers, command_timeout)
        self.connections[opened] = None
        return opened

    async def create_pool(self, *, max_size: int, connect: Any, **options: Any) -> ModelPool:
        """asyncpg.create_pool."""
        kept = {name: options[name] for name in ("command_timeout", "server_settings")}
        return ModelPool(max_size, connect, kept)

    def die(self) -> None:
        """All connections end at once."""
        for connection in list(self.connections):
            connection.end()


class ModelConnection:
    """The part of asyncpg.Connection that the product uses."""

    def __init__(self, driver: ModelDriver, number: int, command_timeout: float) -> None:
        self.driver, self.number, self.command_timeout = driver, number, command_timeout
        self.database, self.faults = driver.database, driver.faults
        self.loop = asyncio.get_running_loop()
        self._gone = False
        self._waiters: list[asyncio.Future[None]] = []
        self._ended: list[Callable[[Any], None]] = []
        self._listening: dict[str, Any] = {}
        self._logs: list[Any] = []

    # ---- statements

    async def fetch(self, sql: str, *arguments: Any, timeout: float | None = None) -> list[Record]:
        return await self._ask(sql, arguments, self.command_timeout if timeout is None else timeout)

    async def fetchrow(self, sql: str, *arguments: Any, timeout: float | None = None) -> Record | None:
        return next(iter(await self.fetch(sql, *arguments, timeout=timeout)), None)

    async def fetchval(self, sql: str, *arguments: Any, timeout: float | None = None) -> Any:
        row = await self.fetchrow(sql, *arguments, timeout=timeout)
        return None if row is None else next(iter(row))

    async def execute(self, sql: str, *arguments: Any, timeout: float | None = None) -> str:
        if sql == BACKEND:
            for heard in self._logs:
                heard(self, SimpleNamespace(message=str(self.number)))
            return "DO"
        return f"INSERT 0 {len(await self.fetch(sql, *arguments, timeout=timeout))}"

    async def _ask(self, sql: str, arguments: tuple[Any, ...], timeout: float) -> list[Record]:
        faults, loop = self.faults, self.loop
        outcome = faults.outcome()
        if outcome == "cut before":
            await self._wait(faults.pause())
            self.end()
        if outcome in ("stalled", "cut before"):
            await self._wait(timeout)
            raise TimeoutError
        if outcome == "refused":
            await self._wait(faults.pause())
            raise failure(*faults.rng.choice(REFUSALS))
        takes = faults.rng.uniform(0.0, SERVER_SECONDS) if outcome in ("late", "deaf") else faults.pause()
        done: asyncio.Future[list[Record]] = loop.create_future()
        loop.call_later(takes, self._do, sql, arguments, done)  # whatever becomes of us meanwhile
        await self._wait(takes, done)
        if outcome == "cut after":
            self.end()
        if outcome == "deaf":
            await self._wait(timeout)
            raise TimeoutError
        await self._wait(faults.pause())
        return await done

    def _do(self, sql: str, arguments: tuple[Any, ...], done: asyncio.Future[list[Record]]) -> None:
        try:
            rows = self.database.run(sql, *arguments)
        except asyncpg.PostgresError as error:
            outcome: Any = error
            if not done.done():
                done.set_exception(outcome)
                done.exception()  # nobody may be there to look
            return
        if not done.done():
            done.set_result(rows)

    async def _wait(self, seconds: float, until: asyncio.Future[Any] | None = None) -> None:
        """Waits; raises if the connection has ended, or ends meanwhile."""
        if not self._gone:
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._waiters.append(waiter)
            if until is None:
                self.loop.call_later(seconds, _wake, waiter)
            else:
                until.add_done_callback(lambda _done: _wake(waiter))
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        if self._gone:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield

    async def cursor(self, sql: str, *arguments: Any, prefetch: int) -> AsyncIterator[Record]:
        for record in await self.fetch(sql, *arguments):
            await self._wait(self.faults.pause())
            yield record

    # ---- notifications

    async def add_listener(self, channel: str, heard: Any) -> None:
        await self.fetch("SET LISTEN")
        if not self._listening:
            self.database.on_notify.append(self._notified)
        self._listening[channel] = heard

    def _notified(self, channel: str, payload: str) -> None:
        self.loop.call_later(self.faults.pause(), self._tell, channel, payload)

    def _tell(self, channel: str, payload: str) -> None:
        if not self._gone and channel in self._listening:
            self._listening[channel](self, self.number, channel, payload)

    def add_termination_listener(self, ended: Any) -> None:
        self._ended.append(ended)

    def add_log_listener(self, heard: Any) -> None:
        self._logs.append(heard)

    def remove_log_listener(self, heard: Any) -> None:
        self._logs.remove(heard)

    # ---- life

    def get_server_pid(self) -> int:
        return self.number

    async def set_type_codec(self, *_arguments: Any, **_options: Any) -> None:
        await self._wait(0.0)

    def is_closed(self) -> bool:
        return self._gone

    def end(self) -> None:
        """Ends the connection."""
        if self._gone:
            return
        self._gone = True
        for waiter in self._waiters:
            _wake(waiter)
        self.driver.connections.pop(self, None)
        if self._listening:
            self.database.on_notify.remove(self._notified)
        for ended in self._ended:
            self.loop.call_soon(ended, self)

    terminate = end

    async def close(self) -> None:
        self.end()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class ModelPool:
    """The part of asyncpg.Pool that the product uses."""

    def __init__(self, size: int, connect: Any, options: dict[str, Any]) -> None:
        self.size, self._connect, self._options = size, connect, options
        self.idle: list[ModelConnection] = []
        self.used: list[ModelConnection] = []
        self._slots = asyncio.Semaphore(size)
        self.closed = False

    def acquire(self, timeout: float | None = None) -> _Acquiring:
        return _Acquiring(self, timeout)

    async def take(self, timeout: float | None) -> ModelConnection:
        """A connection for `acquire`."""
        if self.closed:
            raise asyncpg.InterfaceError("pool is closed")
        async with asyncio.timeout(timeout):
            await self._slots.acquire()
            try:
                while self.idle:
                    if not (opened := self.idle.pop()).is_closed():
                        break
                else:
                    opened = await self._connect(**self._options)
            except BaseException:
                self._slots.release()
                raise
        self.used.append(opened)
        return opened

    async def release(self, connection: ModelConnection) -> None:
        """Returns a connection to the pool."""
        if connection in self.used:
            self.used.remove(connection)
            self.idle.append(connection)
            self._slots.release()

    def terminate(self) -> None:
        self.closed = True
        for connection in (*self.idle, *self.used):
            connection.end()

    async def close(self) -> None:
        self.terminate()

    def is_closing(self) -> bool:
        return self.closed

    def get_size(self) -> int:
        return len(self.idle) + len(self.used)

    def get_idle_size(self) -> int:
        return len(self.idle)

    def get_max_size(self) -> int:
        return self.size


class _Acquiring:
    """The result of `acquire`: it can be awaited, or entered as a context manager."""

    def __init__(self, pool: ModelPool, timeout: float | None) -> None:
        self.pool, self.timeout = pool, timeout
        self.connection: ModelConnection | None = None

    def __await__(self) -> Any:
        return self.pool.take(self.timeout).__await__()

    async def __aenter__(self) -> ModelConnection:
        self.connection = await self.pool.take(self.timeout)
        return self.connection

    async def __aexit__(self, *_error: object) -> None:
        assert self.connection is not None
        await self.pool.release(self.connection)

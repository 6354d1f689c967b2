"""Elixir's `GenServer.stop/3`, which is also `Agent.stop`, `Supervisor.stop` and `DynamicSupervisor.stop`."""

from __future__ import annotations

from typing import Any

from runtime.core.exits import CallSite, Exit
from runtime.otp import gen
from runtime.otp.destination import Dest


async def stop(server: Dest, reason: Any = "normal", timeout: float | None = None) -> None:
    """Stops a server with `reason`, after its `terminate`. `timeout` in ms.

    As `gen_server:stop/3`, but raises Exit((reason, CallSite)), as in Elixir, where that raises Exit(reason).
    """
    try:
        await gen.stop(server, reason, timeout)
    except Exit as ended:
        raise Exit((ended.reason, CallSite("GenServer", "stop", (server, reason, timeout)))) from None

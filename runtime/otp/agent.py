"""Elixir's `Agent`: a process that holds a value.

    pid = await start_link(dict, name="settings")
    await update("settings", lambda state: {**state, "colour": "red"})
    await get("settings", lambda state: state["colour"])

The functions run in the agent and may be `async def`. One that raises ends the agent, and the call raises Exit with the reason,
as in Elixir. All times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutine
from typing import Any, Literal

from runtime.core.bad_argument import check_callable
from runtime.core.pid import Pid
from runtime.otp import gen_server
from runtime.otp.destination import Dest
from runtime.otp.gen import DEFAULT_TIMEOUT
from runtime.otp.gen_server import From, GenServer, Ok, Reply, Stop, start_actor
from runtime.otp.stop_server import stop as stop_server

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Apply:
    what: Literal["get", "update", "get_and_update"]
    function: Function
    args: tuple[Any, ...]


class Agent(GenServer):
    """The process: owns the value and handles the requests of this module's functions, whose exceptions end it."""

    async def init(self, function: Function, args: tuple[Any, ...]) -> Any:
        """The initial value is `function(*args)`."""
        self.value = await _done(function(*args))
        return Ok()

    async def handle_call(self, request: Any, from_: From) -> Any:
        match request:
            case _Apply("get", function, args):
                return Reply(await _done(function(self.value, *args)))
            case _Apply("update", function, args):
                self.value = await _done(function(self.value, *args))
                return Reply("ok")
            case _Apply("get_and_update", function, args):
                result = await _done(function(self.value, *args))
                if not isinstance(result, tuple) or len(result) != 2:
                    return Stop(("bad_return_value", result))
                value, self.value = result
                return Reply(value)
        return Stop(("bad_call", request))

    async def handle_cast(self, request: Any) -> Any:
        match request:
            case _Apply("update", function, args):
                self.value = await _done(function(self.value, *args))
                return None
        return Stop(("bad_cast", request))

    def _get_state(self) -> Any:
        return self.value

    def _replace_state(self, change: Callable[[Any], Any]) -> Any:
        self.value = change(self.value)
        return self.value


async def _done(result: Any) -> Any:
    return await result if iscoroutine(result) else result


async def start_link(
    function: Function, *args: Any, name: Any = None, timeout: float | None = None
) -> Pid | None:
    """`Agent.start_link/2`: an agent with the value `function(*args)`, linked to the caller. Raises StartError."""
    check_callable("function", function)
    return await start_actor(Agent(), (function, args), link=True, name=name, timeout=timeout)


async def start(function: Function, *args: Any, name: Any = None, timeout: float | None = None) -> Pid | None:
    """`Agent.start/2`: as start_link, without the link."""
    check_callable("function", function)
    return await start_actor(Agent(), (function, args), link=False, name=name, timeout=timeout)


async def get(agent: Dest, function: Function, *args: Any, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`Agent.get/3`: returns `function(value, *args)`."""
    check_callable("function", function)
    return await gen_server.call(agent, _Apply("get", function, args), timeout)


async def update(agent: Dest, function: Function, *args: Any, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
    """`Agent.update/3`: sets the value to `function(value, *args)`. Returns "ok"."""
    check_callable("function", function)
    return await gen_server.call(agent, _Apply("update", function, args), timeout)


async def get_and_update(
    agent: Dest, function: Function, *args: Any, timeout: float | None = DEFAULT_TIMEOUT
) -> Any:
    """`Agent.get_and_update/3`: `function(value, *args)` returns `(result, new value)`; any other result ends the agent."""
    check_callable("function", function)
    return await gen_server.call(agent, _Apply("get_and_update", function, args), timeout)


def cast(agent: Dest, function: Function, *args: Any) -> None:
    """`Agent.cast/2`: as update, without waiting."""
    check_callable("function", function)
    gen_server.cast(agent, _Apply("update", function, args))


async def stop(agent: Dest, reason: Any = "normal", timeout: float | None = None) -> None:
    """`Agent.stop/3`. Raises Exit((reason, CallSite)) where `gen_server.stop` raises Exit(reason)."""
    await stop_server(agent, reason, timeout)

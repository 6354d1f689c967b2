"""What the programs share: their table, how a term is printed, and what a body that raises comes to.

Each program is a process of its own and returns what that of the same name in `programs.exs` does, word for word as far as Python
goes. Atoms are strings, `nil` is None; `caught` gives class and reason of what a body raises, without stacks and call sites.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from runtime import (
    TIMEOUT,
    Down,
    Error,
    Exit,
    ExitMessage,
    GenServer,
    StartError,
    Throw,
    erlang,
)
from runtime.core.exits import CallSite, Stack
from runtime.core.pid import Pid, Ref
from runtime.otp.gen_server import Ignore, Reply, Stop

Program = Callable[[], Awaitable[Any]]
PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    """Marks a program; its name is that of Elixir's."""
    PROGRAMS[function.__name__] = function
    return function


def show(value: Any) -> str:
    """A term as `programs.exs` prints it."""
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case str() | int():
            return str(value)
        case list():
            return "[" + ", ".join(map(show, value)) + "]"
        case ExitMessage(pid, reason):
            return show(("EXIT", pid, reason))
        case Down(ref, pid, reason):
            return show(("DOWN", ref, "process", pid, reason))
        case tuple():
            return "{" + ", ".join(map(show, value)) + "}"
        case dict():
            return "%{" + ", ".join(f"{show(k)}: {show(value[k])}" for k in sorted(value)) + "}"
        case Pid():
            return "pid"
        case Ref():
            return "ref"
        case Stack():
            return "stack"
    return repr(value)


# ---- what the programs share


class Echo(GenServer):
    def init(self, *args: Any) -> Any:
        self.value = args[0] if len(args) == 1 else args
        match self.value:
            case "ignore":
                return Ignore()
            case "bad":
                return "bad"
            case ("stop", reason):
                return Stop(reason)
            case (("raise" | "exit" | "throw") as kind, reason):
                raise {"raise": Error, "exit": Exit, "throw": Throw}[kind](reason)
        return None

    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply(erlang.self_() if request == "self" else self.value)

    def handle_cast(self, request: Any) -> Any:
        return Stop(request[1])


async def start_info(arg: Any) -> Any:
    return ("ok", await Echo.start_link(arg), "info")


async def mail(ms: float = 30) -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=ms)) is not TIMEOUT:
        got.append(message)
    return got


async def done(what: Any) -> Any:
    """A command's result: what is None here is `:ok` in Elixir."""
    result = await what if isawaitable(what) else what
    return "ok" if result is None else result


async def end_of(pid: Pid) -> Any:
    return await erlang.await_down(pid, 1000)


def plain(reason: Any) -> Any:
    return (
        (reason[0], "stack")
        if isinstance(reason, tuple) and len(reason) == 2 and isinstance(reason[1], Stack)
        else reason
    )


async def caught(body: Callable[[], Any]) -> Any:
    try:
        result = body()
        return ("ok", await result if isawaitable(result) else result)
    except Exit as ended:
        match ended.reason:
            case (reason, CallSite()):
                return ("exit", plain(reason), "call")
        return ("exit", plain(ended.reason))
    except Throw as thrown:
        return ("throw", thrown.value)
    except Error as failed:
        return ("error", failed.reason)
    except Exception as failed:
        return ("error", type(failed).__name__)


async def error_of(body: Awaitable[Any]) -> Any:
    """A start function's result as Elixir gives it."""
    try:
        result = await body
    except StartError as error:
        return ("error", plain(error.reason))
    match result:
        case None:
            return "ignore"
        case tuple():
            return result
    return ("ok", result)


async def hold() -> str:
    await erlang.receive(lambda message: message == "go")
    return "went"


def fails(reason: Any) -> Callable[..., Any]:
    async def body(*_args: Any) -> None:
        raise Exit(reason)

    return body


async def answer(value: Any, ms: float = 0) -> Any:
    if ms:
        await erlang.sleep(ms)
    return value


async def down(pid: Pid, ref: Ref) -> Any:
    message = await erlang.receive(lambda message: isinstance(message, Down) and message.ref is ref)
    return message.reason


async def listed(stream: Any) -> list[Any]:
    return [result async for result in stream]


async def boom_at_one(i: int) -> int:
    if i == 1:
        raise Exit("boom")
    return i


async def trapping_for_ever() -> None:
    erlang.trap_exit(True)
    await erlang.receive(lambda message: message == "never")

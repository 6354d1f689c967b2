"""Performs random programs on the runtime; `random.exs` is the same in Elixir.

A program is a list of ops, `[name, argument, ...]`, which one process performs one after the other, 10 ms apart; what comes out
is a line for each, and one for how the process ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from runtime import (
    TIMEOUT,
    ChildSpec,
    Down,
    DynamicSupervisor,
    Error,
    Exit,
    ExitMessage,
    Registry,
    TaskSupervisor,
    Throw,
    dynamic_supervisor,
    erlang,
    task,
    task_supervisor,
)
from runtime.core.exits import CallSite, Stack
from runtime.core.pid import Pid, Ref
from runtime.otp.registry import ANY
from runtime.testing.simulation import play

from .program import caught, error_of, plain
from .program import show as show_term

Op = list[Any]


class Performer:
    """The process that performs a program; `lines` is what came out."""

    def __init__(self, ops: list[Op]) -> None:
        self.ops = ops
        self.lines: list[str] = []
        self.names: dict[Pid, str] = {}
        self.registries = {"u": Registry("unique"), "d": Registry("duplicate")}
        self.workers: dict[str, Pid] = {}
        self.tasks: dict[str, task.Task] = {}
        self.starts: dict[str, int] = {}
        self.children: dict[str, Pid] = {}
        self.sup: Any = None
        self.task_sup: Any = None

    async def run(self) -> None:
        self.names[erlang.self_()] = "driver"
        for op in self.ops:
            result = getattr(self, f"_{op[0]}")(*op[1:])
            if isawaitable(result):
                result = await result
            self.lines.append(f"{op[0]} {self.show(result)}")
            await erlang.sleep(10)

    def show(self, value: Any) -> str:
        """As `program.show`, but with the names of processes."""
        match value:
            case Pid():
                return self.names.get(value, "pid")
            case task.Task():
                return self.show(value.pid)
            case tuple():
                return "{" + ", ".join(map(self.show, value)) + "}"
            case list():
                return "[" + ", ".join(map(self.show, value)) + "]"
        return show_term(value)

    # ---- Registry

    def _worker(self, id: str) -> Pid:
        async def work() -> None:
            while True:
                match await erlang.receive():
                    case ("do", function, who):
                        erlang.send(who, ("did", function()))
                    case ("end", reason):
                        raise Exit(reason)

        self.workers[id] = pid = erlang.spawn(work)
        self.names[pid] = id
        return pid

    async def _by(self, id: str, function: Callable[[], Any]) -> Any:
        """What a worker's doing it comes to."""
        erlang.send(self.workers[id], ("do", function, erlang.self_()))
        return (await erlang.receive(lambda message: message[:1] == ("did",)))[1]

    async def _reg(self, id: str, name: str, key: Any, value: Any) -> Any:
        def register() -> Any:
            try:
                self.registries[name].register(key, term(value))
            except Exit as failed:
                return ("error", failed.reason)
            except Error as failed:
                return ("error", failed.reason)
            return "ok"

        return await self._by(id, register)

    async def _unreg(self, id: str, name: str, key: Any) -> Any:
        return await self._by(id, lambda: self.registries[name].unregister(key) or "ok")

    async def _unreg_match(self, id: str, name: str, key: Any, value: Any) -> Any:
        return await self._by(id, lambda: self.registries[name].unregister_match(key, term(value)) or "ok")

    async def _update(self, id: str, key: Any) -> Any:
        return await self._by(
            id, lambda: self.registries["u"].update_value(key, lambda value: ("new", value))
        )

    def _lookup(self, name: str, key: Any) -> Any:
        return self.registries[name].lookup(key)

    def _keys(self, name: str, id: str) -> Any:
        return sorted(map(self.show, self.registries[name].keys(self.workers[id])))

    def _values(self, name: str, key: Any, id: str) -> Any:
        return self.registries[name].values(key, self.workers[id])

    def _count(self, name: str) -> Any:
        return self.registries[name].count()

    def _match(self, name: str, key: Any, value: Any) -> Any:
        return self.registries[name].match(key, term(value))

    def _count_match(self, name: str, key: Any, value: Any) -> Any:
        return self.registries[name].count_match(key, term(value))

    def _select(self, name: str) -> Any:
        return sorted(map(self.show, self.registries[name].select()))

    def _dispatch(self, name: str, key: Any) -> Any:
        found: list[Any] = []
        self.registries[name].dispatch(key, found.extend)
        return found or "none"

    def _whereis(self, key: Any) -> Any:
        return self.registries["u"].whereis_name(key) or "undefined"

    async def _rsend(self, key: Any) -> Any:
        match await caught(lambda: self.registries["u"].send(key, ("got", 1))):
            case ("error", _):
                return "error"
            case result:
                return result

    def _end(self, id: str, reason: Any) -> Any:
        return self._ended(self.workers[id], reason)

    def _ended(self, pid: Pid, reason: Any) -> str:
        if reason == "kill":
            erlang.exit(pid, "kill")
        else:
            erlang.send(pid, ("end", reason))
        return "ok"

    # ---- DynamicSupervisor

    async def _sup(self, max_children: Any, max_restarts: int) -> Any:
        limit = max_children if isinstance(max_children, int) else None
        self.sup = await DynamicSupervisor.start_link(max_children=limit, intensity=max_restarts, period=60)
        self.names[self.sup] = "sup"
        return "ok"

    async def _start(self, id: str, kinds: list[str], restart: str) -> Any:
        spec = ChildSpec(id, (self._child, (id, kinds)), restart=restart)  # type: ignore[arg-type]
        result = await caught(lambda: error_of(dynamic_supervisor.start_child(self.sup, spec)))
        match result:
            case ("ok", ("error", reason)):
                return ("ok", ("error", plain(reason)))
        return result

    async def _child(self, id: str, kinds: list[str]) -> Any:
        n = self.starts[id] = self.starts.get(id, 0) + 1
        match kinds[min(n, len(kinds)) - 1]:
            case "ok" | "info" | "trap" as kind:

                async def work() -> None:
                    if kind == "trap":
                        erlang.trap_exit(True)
                    while True:
                        match await erlang.receive():
                            case ("end", reason):
                                raise Exit(reason)

                self.children[id] = pid = erlang.spawn_link(work)
                self.names[pid] = f"{id}.{n}"
                return ("ok", pid, "info") if kind == "info" else pid
            case "ignore":
                return None
            case "error":
                return ("error", "why")
            case "bad":
                return "bad"
            case "raise":
                raise Error("why")
            case "exit":
                raise Exit("why")
            case _:
                raise Throw("why")

    def _stop_child(self, id: str, reason: Any) -> Any:
        return self._ended(self.children[id], reason) if id in self.children else "none"

    async def _terminate(self, id: str) -> Any:
        if id not in self.children:
            return "none"
        return await caught(lambda: dynamic_supervisor.terminate_child(self.sup, self.children[id]))

    async def _children(self) -> Any:
        return await caught(lambda: dynamic_supervisor.count_children(self.sup))

    async def _which(self) -> Any:
        async def rows() -> Any:
            found = await dynamic_supervisor.which_children(self.sup)
            return sorted(self.show(("undefined", pid, kind)) for _, pid, kind, _ in found)

        return await caught(rows)

    # ---- Task

    def _trap(self, flag: bool) -> Any:
        return erlang.trap_exit(flag)

    async def _tasks(self) -> Any:
        self.task_sup = await TaskSupervisor.start_link()
        return "ok"

    async def _task(self, id: str, how: str, body: Any) -> Any:
        match how:
            case "plain":
                started = task.async_(perform, body)
            case "sup":
                started = await task_supervisor.async_(self.task_sup, perform, body)
            case _:
                started = await task_supervisor.async_nolink(self.task_sup, perform, body)
        self.names[started.pid] = id
        self.tasks[id] = started
        return "ok"

    async def _await(self, id: str, timeout: float) -> Any:
        return await caught(lambda: task.await_(self.tasks[id], timeout))

    async def _yield(self, id: str, timeout: float) -> Any:
        return await self._result(lambda: task.yield_(self.tasks[id], timeout))

    async def _shutdown(self, id: str, timeout: Any) -> Any:
        return await self._result(lambda: task.shutdown(self.tasks[id], timeout))

    async def _ignore(self, id: str) -> Any:
        return await self._result(lambda: task.ignore(self.tasks[id]))

    async def _result(self, body: Callable[[], Awaitable[Any]]) -> Any:
        match await caught(body):
            case ("ok", ("exit", reason)):
                return ("ok", ("exit", plain(reason)))
            case other:
                return other

    async def _await_many(self, ids: list[str], timeout: float) -> Any:
        return await caught(lambda: task.await_many([self.tasks[id] for id in ids], timeout))

    async def _yield_many(self, ids: list[str], timeout: float) -> Any:
        async def body() -> Any:
            found = await task.yield_many([self.tasks[id] for id in ids], timeout)
            return [(one, exit_of(result)) for one, result in found]

        return await caught(body)

    async def _stream(self, inputs: list[Any], options: list[list[Any]]) -> Any:
        async def body() -> Any:
            stream = task_supervisor.async_stream(None, inputs, item, **dict(options))  # type: ignore[arg-type]
            return [exit_of(result) async for result in stream]

        return await caught(body)

    async def _sup_children(self) -> Any:
        async def body() -> Any:
            return sorted(map(self.show, await task_supervisor.children(self.task_sup)))

        return await caught(body)

    async def _mail(self) -> Any:
        got: list[Any] = []
        while (message := await erlang.receive(timeout=5)) is not TIMEOUT:
            match message:
                case ExitMessage(pid, reason):
                    got.append(("EXIT", pid, plain(reason)))
                case Down(pid=pid, reason=reason):
                    got.append(("DOWN", pid, plain(reason)))
                case (Ref(), value):
                    got.append(("ref", value))
                case other:
                    got.append(other)
        return got


def term(value: Any) -> Any:
    """The value, or the pattern, of its description."""
    if isinstance(value, dict):
        return tuple(term(item) for item in value["t"])
    return ANY if value == "_" else value


def exit_of(result: Any) -> Any:
    match result:
        case ("exit", reason):
            return ("exit", plain(reason))
        case _:
            return result


async def perform(body: Any) -> Any:
    """What a task does."""
    match body:
        case ["value", value]:
            return value
        case ["after", ms, then]:
            await erlang.sleep(ms)
            return await perform(then)
        case ["trap", then]:
            erlang.trap_exit(True)
            return await perform(then)
        case ["exit", reason]:
            raise Exit(reason)
        case ["raise"]:
            raise Error("why")
        case ["throw"]:
            raise Throw("why")
    await erlang.receive(lambda message: message == "never")
    return None


async def item(value: Any) -> Any:
    if not isinstance(value, int):
        raise Exit(value)
    await erlang.sleep(value)
    return value


def end_of(reason: Any) -> str:
    match reason:
        case str():
            return reason
        case (_, Stack()):
            return "crash"
        case (_, CallSite()):
            return "call"
    return "other"


def perform_here(ops: list[Op]) -> list[str]:
    """What a program comes to on the runtime."""

    async def body() -> list[str]:
        performer = Performer(ops)
        pid, ref = erlang.spawn_monitor(performer.run)
        down = await erlang.receive(lambda m: isinstance(m, Down) and m.ref is ref, timeout=60_000)
        if down is TIMEOUT:
            erlang.exit(pid, "kill")
            return [*performer.lines, "STUCK"]
        return [*performer.lines, f"down {end_of(down.reason)}"]

    return play(body)

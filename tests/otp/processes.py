"""The processes of a scenario as it describes them: plain ones, workers (gen_servers) and supervisors."""

from __future__ import annotations

from inspect import isawaitable
from typing import Any

from runtime.core.exits import Error, Exit, Throw
from runtime.core.pid import Pid
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import GenServer, Ignore, NoReply, Ok, Reply, StartError, Stop
from runtime.otp.supervisor import ChildSpec, Supervisor, SupFlags

from .operations import Operations, Return, Started, Steps, milliseconds
from .terms import Act, Json

RAISES = {"error": Error, "exit": Exit, "throw": Throw}


class Processes:
    """Makes processes from their JSON descriptions."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self.names = operations.names
        self.modes: dict[Pid, str] = {}
        operations.processes = self

    async def plain(self, mode: str, spawner: Pid | None = None) -> None:
        """The body of a plain process: logs mail (auto) or leaves it for ops (manual), performs steps."""
        me = erlang.self_()
        self.modes[me] = mode
        if spawner is not None:
            erlang.send(spawner, Started(me))
        while True:
            manual = self.modes[me] == "manual"
            match await erlang.receive((lambda message: isinstance(message, Steps)) if manual else None):
                case Steps(ops=ops):
                    try:
                        await self.operations.perform(ops)
                    except Return:
                        return
                case message:
                    self.operations.log("recv", message)

    def switch_mode(self, mode: str) -> None:
        """The op `mode`: of the running process, from its next receive on."""
        self.modes[erlang.self_()] = mode

    def child_spec(self, node: Json) -> ChildSpec:
        """A child spec with just the fields that the scenario gives."""
        fields = {name: node[name] for name in ("restart", "shutdown", "significant") if name in node}
        kind = "supervisor" if node.get("kind") == "sup" else "worker"
        return ChildSpec(self.names.decode(node["id"]), (self.start_child, (node,)), type=kind, **fields)

    async def start_child(self, node: Json, id: str | None = None, overrides: Json = None) -> Any:
        """The start function of children; a simple_one_for_one's start_child adds arguments."""
        if id is not None:
            node = {**node, "id": id, **(overrides or {})}
        match node.get("start"):
            case ["return", term]:
                result = self.names.decode(term)
                if isinstance(result, Pid):  # here it says ok; of an Erlang function it is no result
                    raise StartError(result)
                return result
            case [raises, reason]:
                raise RAISES[raises](self.names.decode(reason))
        return await self.start_node(node)

    async def start_node(self, node: Json, link: bool = True) -> Pid | None:
        """start_link (or start) of a worker or a supervisor."""
        name = node["id"] if node.get("register", True) else None
        if node.get("kind") == "sup":
            return await ScenarioSupervisor.start_link(self, node, name=name)
        start = Worker.start_link if link else Worker.start
        return await start(self, node, name=name, timeout=milliseconds(node.get("start_timeout", "infinity")))


class ScenarioSupervisor(Supervisor):
    """A supervisor of the scenario's children."""

    __module__ = "oracle"  # OTP names the callback module in `bad_return`

    def init(self, processes: Processes, node: Json) -> Any:
        processes.names.add(node["id"], erlang.self_())
        processes.operations.log("init")
        match node.get("init", "ok"):
            case "ok":
                fields = ("strategy", "intensity", "period", "auto_shutdown")
                flags = SupFlags(**{name: node[name] for name in fields if name in node})
                return flags, [processes.child_spec(child) for child in node["children"]]
            case "ignore":
                return Ignore()
            case [raises, reason]:
                raise RAISES[raises](processes.names.decode(reason))
            case other:
                return other


class Worker(GenServer):
    """A gen_server that does what its messages say. Callbacks that wait are coroutines, the others not."""

    def init(self, processes: Processes, node: Json) -> Any:
        self.node = node
        self.operations = processes.operations
        self.names = processes.names
        self.kept: dict[Any, Any] = {}
        self.generation = self.names.add(node["id"], erlang.self_())
        if node.get("trap_exit", False):
            erlang.trap_exit(True)
        self.log("init")
        delay = self._by_generation("init_delay_ms", 0)
        if delay or node.get("init_do"):
            return self._slow_init(delay)
        return self._behave()

    async def _slow_init(self, delay: int) -> Any:
        if delay:
            await erlang.sleep(delay)
        await self.operations.perform(self.node.get("init_do", []))
        return self._behave()

    def _behave(self) -> Any:
        match self._by_generation("init", "ok"):
            case "ok":
                return None
            case "ignore":
                return Ignore()
            case "hibernate":
                return Ok(hibernate=True)
            case ["stop", reason]:
                return Stop(self.names.decode(reason))
            case ["timeout", ms]:
                return Ok(hibernate=True) if ms == "hibernate" else Ok(timeout=milliseconds(ms))
            case ["continue", action]:
                return Ok(continue_=action)
            case ["error" | "exit" | "throw" as raises, reason]:
                raise RAISES[raises](self.names.decode(reason))
            case other:
                return other

    def _by_generation(self, field: str, default: Json) -> Json:
        match self.node.get(field, default):
            case {"seq": values}:
                return values[min(self.generation, len(values)) - 1]
            case value:
                return value

    def log(self, *event: Any) -> None:
        self.operations.log(*event)

    # ---- requests

    def handle_call(self, request: Any, from_: Any) -> Any:
        self._check(request)
        self.log("call", request.action[0])
        return self._act(request.action, from_)

    def handle_cast(self, request: Any) -> Any:
        self._check(request)
        self.log("cast", request.action[0])
        return self._act(request.action, None)

    def _check(self, request: Any) -> None:
        if not isinstance(request, Act):  # of a supervisor's function, say
            raise Error("function_clause")

    def handle_info(self, message: Any) -> Any:
        match message:
            case Steps(ops=ops):
                return self._do(ops, None)
            case Act(action):
                self.log("info", [action[0]])
                return self._act(action, None)
        self.log("info", message)
        return None

    def handle_continue(self, continue_: Any) -> Any:
        self.log("continue", continue_[0])
        return self._act(continue_, None)

    def _act(self, action: Json, from_: Any) -> Any:
        def done(**options: Any) -> Any:
            return NoReply(**options) if from_ is None else Reply("ok", **options)

        match action:
            case ["noop"]:
                return done()
            case ["reply", value]:
                return NoReply() if from_ is None else Reply(self.names.decode(value))
            case ["defer", key]:
                self.kept[key] = from_
                return NoReply()
            case ["answer", key, value]:
                if key not in self.kept:
                    raise Error(("badkey", key))
                gen_server.reply(self.kept[key], self.names.decode(value))
                return done()
            case ["reply_then", value, then]:
                if from_ is None:
                    raise Error("function_clause")
                gen_server.reply(from_, self.names.decode(value))
                return self._act(then, None)
            case ["stop", reason]:
                return Stop(self.names.decode(reason))
            case ["stop_reply", reason, value]:
                reason = self.names.decode(reason)
                return Stop(reason) if from_ is None else Stop(reason, reply=self.names.decode(value))
            case ["error" | "exit" | "throw" as raises, reason]:
                raise RAISES[raises](self.names.decode(reason))
            case ["timeout", ms]:
                return done(hibernate=True) if ms == "hibernate" else done(timeout=milliseconds(ms))
            case ["continue", then]:
                return done(continue_=then)
            case ["hibernate"]:
                return done(hibernate=True)
            case ["sleep", ms, then]:
                return self._sleep_then(ms, then, from_)
            case ["do", ops]:
                return self._do(ops, from_)
        return action[0]  # "bad": no such return value

    async def _sleep_then(self, ms: int, then: Json, from_: Any) -> Any:
        await erlang.sleep(ms)
        result = self._act(then, from_)
        return await result if isawaitable(result) else result

    async def _do(self, ops: list[Json], from_: Any) -> Any:
        await self.operations.perform(ops)
        return NoReply() if from_ is None else Reply("ok")

    # ---- the end

    def terminate(self, reason: Any) -> Any:
        self.log("terminate", reason)
        if self.node.get("terminate_delay_ms") or self.node.get("terminate_do"):
            return self._slow_terminate()
        self._last_word()
        return None

    async def _slow_terminate(self) -> None:
        if delay := self.node.get("terminate_delay_ms"):
            await erlang.sleep(delay)
        await self.operations.perform(self.node.get("terminate_do", []))
        self._last_word()

    def _last_word(self) -> None:
        match self.node.get("terminate", "ok"):
            case [raises, reason]:
                raise RAISES[raises](self.names.decode(reason))

"""The ops of a step: each is one call of the runtime, made by the process that performs the step.

An op that returns is logged as `ok` with its value (quiet ones are not), one that raises as `exc`, and the
next goes on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from random import Random
from typing import TYPE_CHECKING, Any

from runtime.core.exits import Error, Exit, Throw
from runtime.core.pid import Pid
from runtime.otp import erlang, gen_event, gen_server, supervisor, sys
from runtime.otp.erlang import TIMEOUT
from runtime.otp.gen_server import StartError

from .listener import Listener
from .machine import Machine
from .terms import Act, Json, Names

if TYPE_CHECKING:
    from .processes import Processes

QUIET = frozenset({"send", "sleep", "flush", "mode", "cast", "info", "notify"})


@dataclass(frozen=True, slots=True)
class Steps:
    """Ops on their way to the process that performs them. Not part of any trace."""

    ops: list[Json]


@dataclass(frozen=True, slots=True)
class Started:
    """A spawned plain process tells its spawner that it runs."""

    pid: Pid


class Return(Exception):
    """The op `return`: the process's function returns."""


def milliseconds(value: Json) -> float | None:
    """`"infinity"` is the runtime's None."""
    return None if value == "infinity" else value


class Operations:
    """Performs ops and writes the trace. `yields` makes processes pause between ops now and then."""

    def __init__(self, names: Names, yields: Random | None) -> None:
        self.names = names
        self.yields = yields
        self.events: list[Json] = []
        self.processes: Processes

    def log(self, *event: Any) -> None:
        """Writes an event of the running process: kind and details."""
        kind, *details = event
        me = self.names.labels[erlang.self_()]
        self.events.append([kind, me, *(self.names.encode(detail) for detail in details)])

    async def perform(self, ops: list[Json]) -> None:
        """One op after the other. Ends early only by `exit_self` and `return`."""
        for op in ops:
            if self.yields is not None and self.yields.random() < 0.3:
                await asyncio.sleep(0)
            name = op["op"]
            match name:
                case "exit_self":
                    kind = {"exit": Exit, "error": Error, "throw": Throw}[op.get("class", "exit")]
                    raise kind(self.names.decode(op["reason"]))
                case "return" if erlang.self_() in self.processes.modes:
                    raise Return
                case "return":
                    return  # of a callback, which goes on as if there were no more ops
            try:
                value = self._OPS[name](self, op)
                if isawaitable(value):
                    value = await value
            except Exit as exc:
                self.log("exc", name, "exit", exc.reason)
            except Error as exc:
                self.log("exc", name, "error", exc.reason)
            except Throw as exc:
                self.log("exc", name, "throw", exc.value)
            else:
                if name not in QUIET:
                    self.log("ok", name, value)

    def dest(self, who: Json) -> Any:
        """Whom an op names: a pid, or a registered name left for the runtime to resolve."""
        if isinstance(who, dict):
            return who["name"]
        return erlang.self_() if who == "self" else self.names.pid(who)

    # ---- processes and signals

    async def _spawn(self, op: Json) -> Any:
        link, monitor = op.get("link", False), op.get("monitor", False)
        body = self.processes.plain
        result: Any = erlang.spawn(
            body,
            op.get("mode", "auto"),
            erlang.self_(),
            link=link,
            monitor=monitor,
            trap_exit=op.get("trap", False),
        )
        pid = result[0] if monitor else result
        self.names.add(op["id"], pid)
        if monitor:
            self.names.add_ref(op.get("as"), result[1])
        await erlang.receive(lambda message: isinstance(message, Started) and message.pid is pid)
        return result

    def _monitor(self, op: Json) -> Any:
        ref = erlang.monitor(self.dest(op["to"]))
        self.names.add_ref(op.get("as"), ref)
        return ref

    def _demonitor(self, op: Json) -> Any:
        ref, options = self.names.ref(op["ref"]), op.get("opts", [])
        if not {"flush", "info"}.issuperset(options):
            raise Error("badarg")  # here an option is a keyword, and a wrong one no program
        return erlang.demonitor(ref, flush="flush" in options, info="info" in options)

    def _links_of(self, op: Json) -> Any:
        info = erlang.process_info(self.dest(op["to"]))
        return None if info is None else sorted(self.names.labels[pid] for pid in info["links"])

    def _monitors_of(self, op: Json) -> Any:
        info = erlang.process_info(self.dest(op["to"]))
        if info is None:
            return None
        return sorted(self.names.labels[m] if isinstance(m, Pid) else f"name:{m}" for m in info["monitors"])

    def _mailbox_of(self, op: Json) -> Any:
        info = erlang.process_info(self.dest(op["to"]))
        return None if info is None else [m for m in info["messages"] if not isinstance(m, Steps)]

    # ---- messages and timers

    def _timer(self, op: Json) -> Any:
        set_timer = erlang.send_after if op["op"] == "send_after" else erlang.start_timer
        ref = set_timer(op["ms"], self.dest(op["to"]), self.names.message(op["msg"]))
        self.names.add_ref(op.get("as"), ref)
        return ref

    def _timer_left(self, op: Json) -> Any:
        ask = erlang.cancel_timer if op["op"] == "cancel_timer" else erlang.read_timer
        return "false" if ask(self.names.ref(op["ref"])) is False else "time_left"

    async def _receive(self, op: Json) -> Any:
        wanted = json.dumps(self.names.encode(self.names.message(op["match"]))) if "match" in op else None
        tag = op.get("tag")

        def match(message: Any) -> bool:
            if isinstance(message, Steps):
                return False
            term = self.names.encode(message)
            if wanted is not None:
                return json.dumps(term) == wanted
            return tag is None or term == tag or (isinstance(term, dict) and term.get("t", [])[:1] == [tag])

        message = await erlang.receive(match, milliseconds(op.get("after", "infinity")))
        return "$timeout" if message is TIMEOUT else message

    async def _flush(self, op: Json) -> None:
        def mail(message: Any) -> bool:
            return not isinstance(message, Steps)

        while (message := await erlang.receive(mail, 0)) is not TIMEOUT:
            self.log("recv", message)

    # ---- gen_server, gen_statem and sys

    async def _gen_stop(self, op: Json) -> Any:
        reason = self.names.decode(op.get("reason", "normal"))
        await gen_server.stop(self.dest(op["to"]), reason, milliseconds(op.get("timeout", "infinity")))
        return "ok"

    async def _start(self, node: Json, link: bool) -> Any:
        try:
            pid = await self.processes.start_node(node, link=link)
        except StartError as error:
            return ("error", error.reason)
        return "ignore" if pid is None else ("ok", pid)

    async def _start_machine(self, op: Json) -> Any:
        spec = op["machine"]
        try:
            return ("ok", await Machine.start_link(self.processes, spec, name=spec["id"]))
        except StartError as error:
            return ("error", error.reason)

    async def _sys(self, op: Json) -> Any:
        await {"suspend": sys.suspend, "resume": sys.resume}[op["op"]](self.dest(op["to"]))
        return "ok"

    async def _statistics(self, op: Json) -> Any:
        if op["flag"] != "get":
            return await sys.statistics(self.dest(op["to"]), op["flag"] == "true")
        counts = await sys.statistics(self.dest(op["to"]))
        if isinstance(counts, dict):
            counts = [counts["messages_in"], counts["messages_out"]]
        return ("ok", counts)

    async def _sys_status(self, op: Json) -> Any:
        return (await sys.get_status(self.dest(op["to"])))["status"]

    async def _sys_terminate(self, op: Json) -> Any:
        await sys.terminate(self.dest(op["to"]), self.names.decode(op["reason"]))
        return "ok"

    # ---- gen_event

    async def _start_manager(self, op: Json) -> Any:
        start = gen_event.start_link if op.get("link", True) else gen_event.start
        try:
            pid = await start(name=op["id"])
        except StartError as error:
            return ("error", error.reason)
        assert pid is not None
        self.names.add(op["id"], pid)
        return ("ok", pid)

    def _add_handler(self, op: Json) -> Any:
        add = gen_event.add_sup_handler if op.get("sup", False) else gen_event.add_handler
        spec = op["spec"]
        return add(self.dest(op["to"]), (Listener, spec["id"]), (self.processes, spec))

    def _swap_handler(self, op: Json) -> Any:
        swap = gen_event.swap_sup_handler if op.get("sup", False) else gen_event.swap_handler
        old, spec = (Listener, op["handler"]), op["spec"]
        new = ((Listener, spec["id"]), (self.processes, spec))
        return swap(self.dest(op["to"]), (old, op["arg"]), new)

    def _call_handler(self, op: Json) -> Any:
        timeout = milliseconds(op.get("timeout", "infinity"))
        return gen_event.call(self.dest(op["to"]), (Listener, op["handler"]), Act(op["act"]), timeout)

    # ---- supervisors

    async def _which_children(self, op: Json) -> Any:
        rows = [
            (child_id, pid, kind)
            for child_id, pid, kind, _ in await supervisor.which_children(self.dest(op["sup"]))
        ]
        if all(child_id is None for child_id, *_ in rows):  # simple_one_for_one: no order to speak of
            rows.sort(key=lambda row: json.dumps(self.names.encode(row), separators=(",", ":")))
        return rows

    async def _count_children(self, op: Json) -> Any:
        return list((await supervisor.count_children(self.dest(op["sup"]))).items())

    def _start_child(self, op: Json) -> Any:
        sup = self.dest(op["sup"])
        return supervisor.start_child(
            sup, op["args"] if "args" in op else self.processes.child_spec(op["child"])
        )

    async def _get_childspec(self, op: Json) -> Any:
        answer = await supervisor.get_childspec(self.dest(op["sup"]), self.names.decode(op["child"]))
        if answer[0] == "error":
            return answer
        spec = answer[1]
        fields = ("id", "restart", "shutdown", "significant", "type")
        return ("ok", {name: getattr(spec, name) for name in fields})

    def _of_child(self, op: Json) -> Any:
        function = getattr(supervisor, op["op"])
        return function(self.dest(op["sup"]), self.names.decode(op["child"]))

    _OPS: dict[str, Callable[[Operations, Json], Any | Awaitable[Any]]] = {
        "spawn": _spawn,
        "link": lambda self, op: erlang.link(self.dest(op["to"])),
        "unlink": lambda self, op: erlang.unlink(self.dest(op["to"])),
        "monitor": _monitor,
        "demonitor": _demonitor,
        "exit": lambda self, op: erlang.exit(self.dest(op["to"]), self.names.decode(op["reason"])),
        "trap_exit": lambda self, op: erlang.trap_exit(op["value"] in (True, "true")),
        "send": lambda self, op: erlang.send(self.dest(op["to"]), self.names.message(op["msg"])),
        "register": lambda self, op: erlang.register(op["name"], self.dest(op["to"])),
        "unregister": lambda self, op: erlang.unregister(op["name"]),
        "whereis": lambda self, op: erlang.whereis(op["name"]),
        "is_alive": lambda self, op: erlang.is_process_alive(self.dest(op["to"])),
        "links_of": _links_of,
        "monitors_of": _monitors_of,
        "mailbox_of": _mailbox_of,
        "send_after": _timer,
        "start_timer": _timer,
        "cancel_timer": _timer_left,
        "read_timer": _timer_left,
        "sleep": lambda self, op: erlang.sleep(op["ms"]),
        "receive": _receive,
        "flush": _flush,
        "mode": lambda self, op: self.processes.switch_mode(op["mode"]),
        "call": lambda self, op: gen_server.call(
            self.dest(op["to"]), Act(op["act"]), milliseconds(op.get("timeout", "infinity"))
        ),
        "cast": lambda self, op: gen_server.cast(self.dest(op["to"]), Act(op["act"])),
        "info": lambda self, op: erlang.send(self.dest(op["to"]), Act(op["act"])),
        "gen_stop": _gen_stop,
        "start_tree": lambda self, op: self._start(op["tree"], True),
        "start_worker": lambda self, op: self._start(op["worker"], op.get("link", True)),
        "start_machine": _start_machine,
        "suspend": _sys,
        "resume": _sys,
        "statistics": _statistics,
        "sys_status": _sys_status,
        "sys_terminate": _sys_terminate,
        "start_manager": _start_manager,
        "add_handler": _add_handler,
        "delete_handler": lambda self, op: gen_event.delete_handler(
            self.dest(op["to"]), (Listener, op["handler"]), op["arg"]
        ),
        "swap_handler": _swap_handler,
        "notify": lambda self, op: gen_event.notify(self.dest(op["to"]), Act(op["act"])),
        "sync_notify": lambda self, op: gen_event.sync_notify(self.dest(op["to"]), Act(op["act"])),
        "call_handler": _call_handler,
        "which_handlers": lambda self, op: gen_event.which_handlers(self.dest(op["to"])),
        "which_children": _which_children,
        "count_children": _count_children,
        "start_child": _start_child,
        "terminate_child": _of_child,
        "restart_child": _of_child,
        "delete_child": _of_child,
        "get_childspec": _get_childspec,
    }

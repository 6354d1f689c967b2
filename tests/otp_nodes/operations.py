"""The ops that name nodes: each is one call of `runtime.nodes`, made by the process that performs the step."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runtime.core.exits import Error, Exit, Throw
from runtime.core.pid import Pid, Ref
from runtime.core.process import Cell
from runtime.nodes import codec, erpc, global_names, net_kernel, pg, rpc, spawning
from runtime.nodes.multi_call import abcast, multi_call
from runtime.otp import erlang, gen_server, timer
from runtime.otp.gen_server import StartError
from tests.otp.operations import QUIET, Operations, Started, Steps, milliseconds
from tests.otp.terms import Act, Json

if TYPE_CHECKING:
    from .names import NodeNames
    from .world import World

NODE_QUIET = QUIET | {"send_request", "erpc_send", "global_unregister"}
RAISES = {"error": Error, "exit": Exit, "throw": Throw}

for _class in (Act, Started, Steps):
    codec.register(_class)


class NodeOperations(Operations):
    """As `Operations`, on every node of a world."""

    names: NodeNames

    def __init__(self, names: NodeNames, world: World) -> None:
        super().__init__(names, None)
        self.world = world
        self.quiet = False

    def log(self, *event: Any) -> None:
        kind, *details = event
        me = self.names.labels.get(erlang.self_(), "?")
        self.events.append([kind, me, *(self.names.encode(detail) for detail in details)])

    async def perform(self, ops: list[Json]) -> None:
        for op in ops:
            before = len(self.events)
            me = erlang.self_()
            await super().perform([op])
            if op.get("quiet") or op["op"] in NODE_QUIET:
                label = self.names.labels[me]
                self.events[before:] = [
                    event for event in self.events[before:] if event[:3] != ["ok", label, op["op"]]
                ]

    def dest(self, who: Json) -> Any:
        match who:
            case {"name": name, "node": node}:
                return (name, node)
            case {"global": name}:
                return ("global", name)
            case {"alias": name}:
                return self.names.ref(name)
        return super().dest(who)

    # ---- processes

    async def _spawn(self, op: Json) -> Any:
        node = op.get("node", net_kernel.node())
        monitor = op.get("monitor", False)
        args = (op["id"], op.get("mode", "auto"), erlang.self_(), op.get("trap", False))
        result = await spawning.spawn(node, "plain", *args, link=op.get("link", False), monitor=monitor)
        pid: Pid = result[0] if monitor else result
        self.names.add_new(op["id"], pid)
        if monitor:
            self.names.add_ref(op.get("as"), result[1])
        if net_kernel.node(pid) == node:
            await erlang.receive(lambda message: isinstance(message, Started) and message.pid is pid)
        return result

    def _spawn_request(self, op: Json) -> Any:
        options = op.get("opts", [])
        if any(option not in ("link", "monitor") for option in options):
            ref = Ref()
            self.names.add_ref(op.get("as"), ref)
            erlang.send(erlang.self_(), ("spawn_reply", ref, "error", "badopt"))
            return ref
        ref = spawning.spawn_request(
            op["node"], "plain", op["id"], op.get("mode", "auto"), None, op.get("trap", False),
            link="link" in options, monitor="monitor" in options,
        )  # fmt: skip
        self.names.add_ref(op.get("as"), ref)
        mine: Any = erlang.process_info(erlang.self_())
        self.names.add_requested(ref, op["id"], mine["messages"])
        return ref

    async def _start(self, node: Json, link: bool) -> Any:
        return await self.start_here(node, link)

    async def start_here(self, node: Json, link: bool) -> Any:
        """A start function's result, as OTP has it."""
        try:
            pid = await self.processes.start_node(node, link=link)
        except StartError as error:
            return ("error", error.reason)
        return "ignore" if pid is None else ("ok", pid)

    async def _start_on(self, op: Json) -> Any:
        node = op["worker"] if op["op"] == "start_worker" else op["tree"]
        link = op.get("link", True)
        if "node" in op:
            return await erpc.call(op["node"], "start", (node, link))
        return await self._start(node, link)

    # ---- looking

    def _terms_of(self, op: Json) -> Any:
        info = erlang.process_info(self.dest(op["to"]))
        if info is None:
            return None
        which = info["links"] if op["op"] == "links_of" else info["monitors"]
        found = [(one, net_kernel.node()) if isinstance(one, str) else _plain(one) for one in which]
        return sorted(found, key=lambda one: json.dumps(self.names.encode(one)))

    # ---- messages

    def _send(self, op: Json) -> Any:
        dest, message = self.dest(op["to"]), self.names.message(op["msg"])
        if isinstance(dest, tuple) and dest[0] == "global":
            return global_names.send(dest[1], message)
        return erlang.send(dest, message)

    def _alias(self, op: Json) -> Any:
        options = op.get("opts", [])
        if any(option not in ("reply", "explicit_unalias") for option in options):
            raise Error("badarg")
        ref = erlang.alias(options[-1:] == ["reply"])
        self.names.add_ref(op["as"], ref)
        return ref

    async def _multi_call(self, op: Json) -> Any:
        timeout = milliseconds(op.get("timeout", "infinity"))
        replies, bad = await multi_call(op["name"], Act(op["act"]), nodes=op.get("nodes"), timeout=timeout)
        key: Callable[[Any], str] = lambda one: json.dumps(self.names.encode(one))  # noqa: E731
        return (sorted(replies, key=key), sorted(bad))

    def _request(self, op: Json) -> None:
        if op["op"] == "erpc_send":
            self.names.requests[op["as"]] = erpc.send_request(op["node"], self._name(op["f"]), (op["f"],))
        else:
            dest = self.dest(op["to"])
            self.names.requests[op["as"]] = gen_server.send_request(dest, Act(op["act"]))

    async def _response(self, op: Json) -> Any:
        if op["as"] not in self.names.requests:
            raise Error("unknown_ref")
        request = self.names.requests[op["as"]]
        timeout = milliseconds(op.get("timeout", "infinity"))
        match op["op"]:
            case "erpc_receive":
                return await erpc.receive_response(request, timeout)
            case "erpc_wait":
                return await erpc.wait_response(request, timeout)
        wait = gen_server.wait_response if op["op"] == "wait_response" else gen_server.receive_response
        answer = await wait(request, timeout)
        return "timeout" if answer is erlang.TIMEOUT else answer

    # ---- pg

    def _pids(self, to: Json) -> Any:
        return [self.dest(one) for one in to] if isinstance(to, list) else self.dest(to)

    async def _pg(self, op: Json) -> Any:
        scope = op.get("scope", "s")
        match op["op"]:
            case "pg_start":
                try:
                    await pg.start(scope)
                except StartError:
                    return "already_started"
                return "ok"
            case "pg_stop":
                await gen_server.stop(scope)
                return "ok"
            case "pg_join":
                return await pg.join(scope, op["group"], self._pids(op["to"]))
            case "pg_leave":
                return await pg.leave(scope, op["group"], self._pids(op["to"]))
            case "pg_members":
                return self._sorted(pg.get_members(scope, op["group"]))
            case "pg_local":
                return self._sorted(pg.get_local_members(scope, op["group"]))
            case "pg_groups":
                return sorted(pg.which_groups(scope))
            case "pg_demonitor":
                return await pg.demonitor(scope, self.names.ref(op["ref"]))
        return await self._pg_monitor(op, scope)

    async def _pg_monitor(self, op: Json, scope: str) -> Any:
        if op["op"] == "pg_monitor":
            ref, pids = await pg.monitor(scope, op["group"])
            self.names.add_ref(op["as"], ref)
            return self._sorted(pids)
        ref, groups = await pg.monitor_scope(scope)
        self.names.add_ref(op["as"], ref)
        return sorted((group, len(pids)) for group, pids in groups.items())

    def _sorted(self, pids: list[Pid]) -> list[Pid]:
        return sorted(pids, key=lambda pid: json.dumps(self.names.encode(pid)))

    # ---- global

    async def _global(self, op: Json) -> Any:
        match op["op"]:
            case "global_register":
                resolver = op.get("resolve", "random_exit_name")
                return await global_names.register_name(op["name"], self.dest(op["to"]), resolver)
            case "global_re_register":
                return await global_names.re_register_name(op["name"], self.dest(op["to"]))
            case "global_unregister":
                return await global_names.unregister_name(op["name"])
            case "global_whereis":
                return global_names.whereis_name(op["name"])
            case "global_names":
                return global_names.registered_names()
            case "global_send":
                return global_names.send(op["name"], self.names.message(op["msg"]))
            case "global_set_lock":
                id = (op["lock"], erlang.self_())
                return await global_names.set_lock(id, op.get("nodes"), op.get("retries", 0))
        return await global_names.del_lock((op["lock"], erlang.self_()), op.get("nodes"))

    async def _rpc(self, op: Json) -> Any:
        f = (op["f"],)
        timeout = milliseconds(op.get("timeout", "infinity"))
        match op["op"]:
            case "rpc":
                return await rpc.call(op["node"], self._name(op["f"]), f, timeout)
            case "erpc":
                return await erpc.call(op["node"], self._name(op["f"]), f, timeout)
            case "rpc_cast":
                return rpc.cast(op["node"], self._name(op["f"]), f)
            case "erpc_cast":
                return erpc.cast(op["node"], self._name(op["f"]), f)
            case "rpc_multicall":
                results, bad = await rpc.multicall(op["nodes"], self._name(op["f"]), f, timeout)
                return (results, sorted(bad))
        return await erpc.multicall(op["nodes"], self._name(op["f"]), f, timeout)

    @staticmethod
    def _name(f: Json) -> str:
        return "no such function" if f[0] == "undef" else "f"

    async def f(self, f: Json) -> Any:
        """The functions that rpc and erpc call."""
        match f:
            case ["return", term]:
                return self.names.decode(term)
            case ["error" | "exit" | "throw" as raises, reason]:
                raise RAISES[raises](self.names.decode(reason))
            case ["node"]:
                return net_kernel.node()
            case ["sleep", ms, then]:
                await erlang.sleep(ms)
                return await self.f(then)
            case ["kill_self"]:
                erlang.exit(erlang.self_(), "kill")
            case ["halt"]:
                self.world.halt(net_kernel.node())
                await erlang.receive(lambda _: False)
            case ["whereis", name]:
                return erlang.whereis(name)
            case ["alive", to]:
                return erlang.is_process_alive(self.dest(to))
            case ["call", to, act]:
                return await gen_server.call(self.dest(to), Act(act), None)
            case ["send", to, msg]:
                return erlang.send(self.dest(to), self.names.message(msg))
            case ["trap", then]:
                erlang.trap_exit(True)
                return await self.f(then)
        raise AssertionError(f)

    _OPS = {
        **Operations._OPS,
        "spawn": _spawn,
        "spawn_request": _spawn_request,
        "start_worker": _start_on,
        "start_tree": _start_on,
        "links_of": _terms_of,
        "monitors_of": _terms_of,
        "send": _send,
        "alias": _alias,
        "unalias": lambda self, op: erlang.unalias(self.names.ref(op["ref"])),
        "send_opt": lambda self, op: net_kernel.send(
            self.dest(op["to"]), self.names.message(op["msg"]), op.get("opts", [])
        ),
        "timer_send_after": lambda self, op: timer.send_after(
            op["ms"], self.dest(op["to"]), self.names.message(op["msg"])
        )[0],
        "node_of": lambda self, op: net_kernel.node(self.dest(op["to"])),
        "nodes": lambda self, op: net_kernel.nodes(),
        "connect": lambda self, op: net_kernel.connect_node(op["node"]),
        "ping": lambda self, op: net_kernel.ping(op["node"]),
        "disconnect": lambda self, op: net_kernel.disconnect_node(op["node"]),
        "monitor_node": lambda self, op: net_kernel.monitor_node(op["node"], op["value"] in (True, "true")),
        "monitor_nodes": lambda self, op: net_kernel.monitor_nodes(
            op["value"] in (True, "true"), op.get("opts")
        ),
        "send_request": _request,
        "erpc_send": _request,
        "receive_response": _response,
        "wait_response": _response,
        "erpc_receive": _response,
        "erpc_wait": _response,
        "multi_call": _multi_call,
        "abcast": lambda self, op: abcast(op["name"], Act(op["act"]), nodes=op.get("nodes")),
        **dict.fromkeys(
            ("pg_start", "pg_stop", "pg_join", "pg_leave", "pg_members", "pg_local", "pg_groups", "pg_monitor",
             "pg_monitor_scope", "pg_demonitor"), _pg
        ),
        **dict.fromkeys(
            ("global_register", "global_re_register", "global_unregister", "global_whereis", "global_names",
             "global_send", "global_set_lock", "global_del_lock"), _global
        ),
        **dict.fromkeys(("rpc", "erpc", "rpc_cast", "erpc_cast", "rpc_multicall", "erpc_multicall"), _rpc),
    }  # fmt: skip


def _plain(one: Any) -> Any:
    """A monitor of a name on another node shows as the name and the node."""
    if isinstance(one, Pid) and not isinstance(one, Cell) and isinstance(getattr(one, "address", 0), str):
        return (one.address, one.node_name)  # type: ignore[attr-defined]
    return one

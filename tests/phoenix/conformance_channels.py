"""The channels of the conformance app that the transcripts were recorded with, on our public classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.core import exits
from runtime.otp import erlang
from runtime.phoenix import Accept, Channel, NoReply, Refuse, Reply, Socket, SocketRef, Stop, presence, reply
from runtime.phoenix.messages import Broadcast
from runtime.phoenix.request import Uri

BIN = bytes((0, 1, 2, 0xFD, 0xFE, 0xFF))


@dataclass(frozen=True)
class AfterJoin:
    params: Any


@dataclass(frozen=True)
class Info:
    payload: Any


@dataclass(frozen=True)
class TimerReply:
    ref: SocketRef
    payload: Any


class RoomChannel(Channel):
    intercept = ("secret", "filtered")

    async def join(self, topic: str, payload: Any, socket: Socket) -> Any:
        self.refs: list[tuple[SocketRef, Any]] = []
        match topic:
            case "room:error":
                return Refuse({"reason": "unauthorized"})
            case "room:error_string":
                return Refuse("plain")
            case "room:raise":
                raise RuntimeError("join raises")
            case "room:exit":
                exits.exit("boom")
            case "room:badreturn":
                return "an invalid value"
            case "room:reply":
                return Accept({"welcome": "hi", "user": self.assigns["user_id"], "params": payload})
            case "room:binreply":
                return Accept(BIN)
            case "room:params":
                if payload["key"] == "secret" if isinstance(payload, dict) and "key" in payload else False:
                    return Accept({"accepted": payload})
                return Refuse({"reason": "invalid", "got": payload})
            case "room:push_in_join":
                self.push("early", {})
            case "room:slow":
                await erlang.sleep(300)
                return Accept({"slow": True})
            case "room:slower":
                await erlang.sleep(1400)
                return Accept({"slow": True})
            case "room:after":
                erlang.send(self.pid, AfterJoin(payload))
                return Accept({"first": True})
            case "room:autoclose":
                erlang.send_after(100, self.pid, "autoclose")
            case "room:autocrash":
                erlang.send_after(100, self.pid, "autocrash")
        return Accept()

    def handle_in(self, event: Any, payload: Any) -> Any:
        p = payload
        match event:
            case "echo":
                return Reply(("ok", p))
            case "reply_ok_empty":
                return Reply("ok")
            case "reply_error_empty":
                return Reply("error")
            case "reply_error":
                return Reply(("error", {"reason": "bad"}))
            case "reply_custom":
                return Reply(("maybe", p))
            case "reply_list":
                return Reply(("ok", [1, "two", None]))
            case "reply_binary":
                return Reply(("ok", BIN))
            case "reply_binary_ascii":
                return Reply(("ok", b"plain"))
            case "noreply" | "hibernate":
                return NoReply()
            case "push":
                self.push("pushed", p)
                return NoReply()
            case "push_reply":
                self.push("pushed", p)
                return Reply(("ok", {"done": True}))
            case "push_binary":
                self.push("bin", BIN)
                return NoReply()
            case "push_bad":
                self.push("bad", "not a map")
                return NoReply()
            case "push_reserved":
                self.push("phx_reply", p)
                return NoReply()
            case "many":
                for i in range(1, p["n"] + 1):
                    self.push("tick", {"i": i})
                return Reply(("ok", {"n": p["n"]}))
            case "broadcast":
                self.broadcast("shout", p)
                return NoReply()
            case "broadcast_reply":
                self.broadcast("shout", p)
                return Reply("ok")
            case "broadcast_from":
                self.broadcast_from("shout", p)
                return Reply("ok")
            case "broadcast_binary":
                self.broadcast("binshout", BIN)
                return Reply("ok")
            case "broadcast_secret":
                self.broadcast("secret", p)
                return NoReply()
            case "broadcast_filtered":
                self.broadcast("filtered", p)
                return NoReply()
            case "broadcast_to":
                self.socket.endpoint.broadcast(p["topic"], p["event"], p["payload"])
                return Reply("ok")
            case "async_reply":
                self.refs.append((self.socket_ref(), p))
                return NoReply()
            case "async_release":
                refs, self.refs = self.refs, []
                for ref, kept in refs:
                    reply(ref, "ok", kept)
                return Reply(("ok", {"released": len(refs)}))
            case "async_timer":
                erlang.send_after(80, self.pid, TimerReply(self.socket_ref(), p))
                return NoReply()
            case "async_twice":
                ref = self.socket_ref()
                reply(ref, "ok", {"n": 1})
                reply(ref, "ok", {"n": 2})
                return Reply(("ok", p))
            case "crash":
                raise RuntimeError("crash")
            case "exit":
                exits.exit("boom")
            case "exit_normal":
                exits.exit("normal")
            case "throw":
                exits.throw("ball")
            case "push_crash":
                self.push("pushed", p)
                raise RuntimeError("crash")
            case "bad_return":
                return "an invalid value"
            case "stop_normal":
                return Stop("normal")
            case "stop_shutdown":
                return Stop("shutdown")
            case "stop_shutdown_tuple":
                return Stop(("shutdown", "why"))
            case "stop_other":
                return Stop("other")
            case "stop_reply":
                return Stop("normal", ("ok", p))
            case "stop_reply_error":
                return Stop("shutdown", ("error", p))
            case "stop_other_reply":
                return Stop("other", ("ok", p))
            case "assign_count":
                self.assigns["count"] = self.assigns.get("count", 0) + 1
                return Reply(("ok", {"count": self.assigns["count"]}))
            case "info":
                erlang.send(self.pid, Info(p))
                return Reply("ok")
            case "subscribe":
                self.socket.endpoint.subscribe(p["topic"])
                return Reply("ok")
            case "sleep":
                return self._sleep(p)
            case "disconnect_me":
                self.socket.endpoint.broadcast(self.socket.socket_id, "disconnect", {})
                return NoReply()
            case "big":
                return Reply(("ok", {"big": "x" * p["n"]}))
            case "binary_size":
                if isinstance(p, bytes):
                    return Reply(("ok", {"kind": "binary", "size": len(p)}))
                return Reply(("ok", {"kind": "json"}))
            case "whoami":
                return Reply(("ok", self._whoami()))
        return super().handle_in(event, payload)

    async def _sleep(self, p: Any) -> Reply:
        await erlang.sleep(p["ms"])
        return Reply(("ok", p))

    def _whoami(self) -> dict[str, Any]:
        info = self.assigns["info"]
        uri: Uri | None = info.get("uri")
        x_headers = info.get("x_headers")
        return {
            "user": self.assigns["user_id"],
            "id": self.socket.socket_id,
            "params": self.assigns["params"],
            "transport": self.socket.transport.name,
            "topic": self.topic,
            "origin": self.assigns.get("origin"),
            "joined": self.joined,
            "join_ref": self.join_ref,
            "ref": self.ref,
            "auth_token": info.get("auth_token"),
            "x_headers": None if x_headers is None else dict(x_headers),
            "user_agent": info.get("user_agent"),
            "session": info.get("session"),
            "trace": dict(info["trace_context_headers"]) if "trace_context_headers" in info else None,
            "uri": None
            if uri is None
            else {"path": uri.path, "query": uri.query, "host": uri.host, "scheme": uri.scheme},
            "info_keys": sorted(info),
        }

    def handle_out(self, event: str, payload: Any) -> Any:
        match event:
            case "secret":
                self.push("secret", {**payload, "seen_by": self.assigns["user_id"]})
            case "filtered":
                if payload.get("only") == self.assigns["user_id"]:
                    self.push("filtered", payload)
            case _:
                super().handle_out(event, payload)
        return NoReply()

    def handle_info(self, message: Any) -> Any:
        match message:
            case AfterJoin(params):
                self.push("after_join", params)
            case Info(payload):
                self.push("info", payload)
            case TimerReply(ref, payload):
                reply(ref, "ok", payload)
            case Broadcast(topic, event, payload):
                self.push("relayed", {"topic": topic, "event": event, "payload": payload})
            case "autoclose":
                return Stop(("shutdown", "done"))
            case "autocrash":
                raise RuntimeError("autocrash")
        return NoReply()

    def terminate(self, reason: Any) -> None:
        if self.topic.startswith("room:observed"):
            match reason:
                case ("shutdown", why):
                    name = f"shutdown:{why}"
                case str():
                    name = reason
                case _:
                    name = "error"
            told = {"topic": self.topic, "reason": name, "user": self.assigns["user_id"]}
            self.socket.endpoint.broadcast("room:observer", "terminated", told)


class PresenceChannel(Channel):
    def join(self, topic: str, payload: Any, socket: Socket) -> Any:
        erlang.send(self.pid, AfterJoin(payload))
        return Accept()

    @property
    def presence(self) -> presence.Presence:
        return presence.whereis(self.socket.endpoint.pubsub_name + ".presence")

    @property
    def key(self) -> str:
        return self.assigns["user_id"]

    def handle_info(self, message: Any) -> Any:
        match message:
            case AfterJoin(params):
                meta = None if params is None else params.get("meta")
                meta = {} if meta is None or meta is False else meta  # what Elixir's || takes for nothing
                if self.topic.startswith("presence:docs"):
                    self.presence.track(self.pid, self.topic, self.key, meta)
                    self.push("presence_state", self.presence.list(self.topic))
                else:
                    self.push("presence_state", self.presence.list(self.topic))
                    self.presence.track(self.pid, self.topic, self.key, meta)
        return NoReply()

    def handle_in(self, event: Any, payload: Any) -> Any:
        match event:
            case "list":
                return Reply(("ok", self.presence.list(self.topic)))
            case "get":
                return Reply(("ok", {"found": self.presence.get_by_key(self.topic, payload["key"])}))
            case "update":
                self.presence.update(self.pid, self.topic, self.key, payload)
                return Reply("ok")
            case "update_fun":
                self.presence.update(self.pid, self.topic, self.key, lambda meta: {**meta, "via": "fun"})
                return Reply("ok")
            case "update_missing":
                try:
                    self.presence.update(self.pid, self.topic, "nobody", payload)
                except presence.NoPresence:
                    return Reply(("error", {"reason": "nopresence"}))
            case "track_again":
                try:
                    self.presence.track(self.pid, self.topic, self.key, payload)
                except presence.AlreadyTracked:
                    return Reply(("error", {"reason": "already_tracked"}))
            case "track_as":
                self.presence.track(self.pid, self.topic, payload["key"], payload["meta"])
                return Reply("ok")
            case "untrack":
                self.presence.untrack(self.pid, self.topic, self.key)
                return Reply("ok")
            case "stop":
                return Stop("normal")
            case "crash":
                raise RuntimeError("crash")
        return super().handle_in(event, payload)

"""The room that the tests of sockets and limits play in, and how a client joins it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.core import exits
from runtime.otp import erlang
from runtime.phoenix import (
    Accept,
    Broadcast,
    Channel,
    Endpoint,
    NoReply,
    Refuse,
    Reply,
    Socket,
    SocketRef,
    Stop,
    reply,
)
from tests.phoenix.client import Client
from tests.phoenix.client import reply as phx_reply


@dataclass(frozen=True)
class Tell:
    event: str
    payload: Any


class Room(Channel):
    intercept = ("secret",)

    async def join(self, topic: str, payload: Any, socket: Socket) -> Any:
        match topic.partition(":")[2]:
            case "slow":
                await erlang.sleep(300)
            case "refused":
                return Refuse({"reason": "no"})
            case "crash":
                raise RuntimeError("join")
            case "bad":
                return True
            case "binary":
                return Accept(b"\x00")
            case "early":
                self.push("early", {})
            case "stubborn":
                erlang.trap_exit(True)
        return Accept({"user": self.assigns["user"], **self.assigns.get("extra", {})})

    async def handle_in(self, event: Any, payload: Any) -> Any:
        match event:
            case "echo":
                return Reply(("ok", payload))
            case "nothing":
                return None
            case "sleep":
                await erlang.sleep(payload)
                return Reply("ok")
            case "push":
                self.push("pushed", payload)
            case "shout":
                self.broadcast("shout", payload)
                return Reply("ok")
            case "others":
                self.broadcast_from("shout", payload)
                return Reply("ok")
            case "secret":
                self.broadcast("secret", payload)
            case "later":
                erlang.send_after(10, self.pid, self.socket_ref())
                return NoReply()
            case "crash":
                raise RuntimeError("crash")
            case "throw":
                exits.throw(Reply("ok"))
            case "stop":
                return Stop(payload if isinstance(payload, str) else tuple(payload), ("ok", "bye"))
            case "count":
                self.assigns["count"] = self.assigns.get("count", 0) + 1
                return Reply(("ok", self.assigns["count"]))
            case "bad":
                return 42
        return NoReply()

    def handle_out(self, event: str, payload: Any) -> Any:
        self.push(event, {**payload, "for": self.assigns["user"]})

    def handle_info(self, message: Any) -> Any:
        match message:
            case SocketRef():
                reply(message, "ok", "later")
            case Tell(event, payload):
                self.push(event, payload)
            case Broadcast():
                self.push("relayed", {"event": message.event})

    def terminate(self, reason: Any) -> None:
        if self.topic == "room:observed":
            self.socket.endpoint.broadcast("ends", "terminated", {"reason": reason})


class UserSocket(Socket):
    channels = {"room:*": Room, "extra:*": (Room, {"assigns": {"extra": {"kind": "extra"}}}), "exact": Room}

    def connect(self, params: dict[str, Any], connect_info: dict[str, Any]) -> Any:
        self.assigns["user"] = params.get("user", "ann")
        return Accept()

    def id(self) -> str | None:
        return f"user:{self.assigns['user']}"


HEARTBEAT = [None, "9", "phoenix", "heartbeat", {}]


def join(topic: str = "room:a", ref: Any = "1", payload: Any = None) -> list[Any]:
    return [ref, ref, topic, "phx_join", {} if payload is None else payload]


async def joined(endpoint: Endpoint, topic: str = "room:a", **options: Any) -> Client:
    client = Client(endpoint, UserSocket, **options)
    got = await client.ask(join(topic))
    assert got == [phx_reply("1", "1", topic, {"user": client.socket.assigns["user"]})]
    return client


def channel_of(client: Client, topic: str = "room:a") -> Any:
    return client.connection.channels[topic].pid

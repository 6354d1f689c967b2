"""A client without a network: drives a `WebSocketConnection` through a fake IO."""

from __future__ import annotations

from itertools import count
from typing import Any

import orjson
from websockets.speedups import apply_mask

from runtime.otp import erlang
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.phoenix import Accept, Endpoint, Socket, Sockets, WebSocketOptions
from runtime.phoenix.deflate import Deflate
from runtime.phoenix.presence import Presence
from runtime.phoenix.pubsub import PubSub
from runtime.phoenix.serializer import V1_SERIALIZER, V2_SERIALIZER
from runtime.phoenix.websocket import WebSocketConnection

_numbers = count(1)


async def start_endpoint() -> Endpoint:
    """PubSub, Presence, the channels' supervisor and the sockets' keeper under names of their own."""
    prefix = f"test{next(_numbers)}"
    endpoint = Endpoint(f"{prefix}.pubsub", f"{prefix}.channels", f"{prefix}.sockets")
    await PubSub.start(name=endpoint.pubsub_name)
    await Presence.start(endpoint.pubsub_name, name=f"{endpoint.pubsub_name}.presence")
    await DynamicSupervisor.start(name=endpoint.channels)
    await Sockets.start(name=endpoint.sockets)
    return endpoint


def client_frame(opcode: int, payload: bytes, first: int = 0x80) -> bytes:
    """A masked frame; `first` holds FIN and the RSV bits."""
    size = len(payload)
    mask = b"\x37\xfa\x21\x3d"  # RFC 6455's own example: tests must be the same in every run
    if size < 126:
        head = bytes((first | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((first | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + mask + apply_mask(payload, mask)


class FakeIO:
    """The network side: keeps what is written; `stuck` bytes are never taken by the peer."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.stuck = 0
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after close"
        self.out += data
        if self.stuck:
            self.stuck += len(data)

    def buffered(self) -> int:
        return self.stuck

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Client:
    """One connected client of a socket class."""

    def __init__(
        self,
        endpoint: Endpoint,
        socket: type[Socket],
        vsn: int = 2,
        options: WebSocketOptions | None = None,
        deflate: Deflate | None = None,
        **params: Any,
    ) -> None:
        options = options or WebSocketOptions()
        serializer = V2_SERIALIZER if vsn == 2 else V1_SERIALIZER
        self.socket = socket(endpoint, serializer, options.max_channels_per_transport, options.join_timeout)
        assert isinstance(self.socket.connect(params, {}), Accept)
        self.socket.socket_id = self.socket.id()
        self.io = FakeIO()
        self.connection = WebSocketConnection(self.socket, self.io, options, deflate)
        sockets = erlang.process_info(erlang.whereis(endpoint.sockets))
        assert sockets is not None
        self.pid = erlang.whereis(endpoint.sockets).cell.actor.open(self.connection)

    def send_bytes(self, data: bytes) -> None:
        """Bytes as they come from the network."""
        if not self.connection.closing:
            self.connection.data_received(data)

    def send(self, *messages: Any) -> None:
        """Messages as JSON text, in one read."""
        self.send_bytes(b"".join(client_frame(1, orjson.dumps(message)) for message in messages))

    async def settle(self, ms: float = 5) -> list[Any]:
        """What has come once nothing happens any more: JSON values, `bytes`, and `("close", code)`."""
        await erlang.sleep(ms)
        return self.take()

    async def ask(self, *messages: Any) -> list[Any]:
        """Sends and settles."""
        self.send(*messages)
        return await self.settle()

    def take(self) -> list[Any]:
        """What has come since last time."""
        data = bytes(self.io.out)
        self.io.out.clear()
        got: list[Any] = []
        position = 0
        while position < len(data):
            first, size = data[position], data[position + 1]
            position += 2
            if size in (126, 127):
                width = 2 if size == 126 else 8
                size = int.from_bytes(data[position : position + width], "big")
                position += width
            payload = data[position : position + size]
            position += size
            match first & 0x0F:
                case 1:
                    got.append(orjson.loads(payload) if not first & 0x40 else ("deflated", payload))
                case 2:
                    got.append(payload)
                case 8:
                    got.append(("close", int.from_bytes(payload[:2], "big")))
                case 10:
                    got.append(("pong", payload))
        return got


def reply(join_ref: Any, ref: Any, topic: Any, response: Any, status: str = "ok") -> list[Any]:
    """A phx_reply on V2."""
    return [join_ref, ref, topic, "phx_reply", {"status": status, "response": response}]

"""The endpoint: the configuration shared by channels and transports, and broadcasts to topics (`Phoenix.Endpoint`).

It has no process. PubSub, the supervisor of the channels and the owner of the sockets are looked up by name for each use, so that
a restarted one is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from runtime.core import telemetry
from runtime.core.pid import Pid
from runtime.core.scheduling import scheduler
from runtime.phoenix import fanout, pubsub
from runtime.phoenix.messages import Broadcast, Frame
from runtime.phoenix.pubsub import PubSub, Subscription

if TYPE_CHECKING:
    from runtime.phoenix.serializer import Serializer
    from runtime.phoenix.socket import SocketTransport


BROADCAST: Final = ("phoenix", "broadcast")


class Fastlane(Struct, eq=False):
    """Metadata of a channel's subscription: broadcasts go directly to its transport, except intercepted events."""

    transport: SocketTransport
    serializer: Serializer
    intercepts: frozenset[str]


def fastlane(subscribers: Iterable[Subscription], from_: Pid | None, broadcast: Broadcast) -> None:
    """`Phoenix.Channel.Server.dispatch/3`: encodes once per serializer and writes to each transport; no channel is woken.

    Raises what a serializer raises; as in Phoenix the subscribers before it have then received the broadcast.
    """
    event = broadcast.event
    frames: dict[Serializer, Frame] = {}
    serializer: Serializer | None = None  # of `frame`; most subscribers have the same as the one before
    frame: Frame | None = None
    deliveries = 0
    waiting: dict[SocketTransport, Frame] = {}
    try:
        for pid, metadata in subscribers:
            if pid is from_:
                continue
            if type(metadata) is not Fastlane or (metadata.intercepts and event in metadata.intercepts):
                pid.cell.deliver(broadcast)
                continue
            if metadata.serializer is not serializer:
                serializer = metadata.serializer
                frame = frames.get(serializer)
                if frame is None:
                    frame = frames[serializer] = serializer.fastlane(broadcast)
            assert frame is not None
            deliveries += 1
            if metadata.transport in waiting:  # subscribed twice: a fanout has one frame for a transport
                metadata.transport.push(frame)
            else:
                waiting[metadata.transport] = frame
    finally:
        fanout.start(list(waiting), waiting)
    if telemetry.attached(BROADCAST):
        telemetry.execute(BROADCAST, {"deliveries": deliveries}, {"topic": broadcast.topic, "event": event})


class Endpoint:
    """The registered names of the processes that a socket mount needs, and its host.

    `pubsub`, `channels` (a DynamicSupervisor) and `sockets` (a `drainer.Sockets`) are registered names;
    `url_host` is the host that `check_origin=True` compares with.
    """

    __slots__ = ("channels", "pubsub_name", "sessions", "sockets", "url_host")

    def __init__(
        self,
        pubsub: str = "pubsub",
        channels: str = "channels",
        sockets: str = "sockets",
        url_host: str = "localhost",
    ) -> None:
        self.pubsub_name = pubsub
        self.channels = channels
        self.sockets = sockets
        self.url_host = url_host
        self.sessions: dict[str, Pid] = {}  # longpoll sessions by token

    @property
    def pubsub(self) -> PubSub:
        """The PubSub. Raises Error("noproc") while it does not run."""
        return pubsub.whereis(self.pubsub_name)

    def subscribe(self, topic: str, pid: Pid | None = None) -> None:
        """`Endpoint.subscribe/2`: the process gets `Broadcast` messages of the topic."""
        self.pubsub.subscribe(topic, pid)

    def unsubscribe(self, topic: str, pid: Pid | None = None) -> None:
        """`Endpoint.unsubscribe/1`."""
        self.pubsub.unsubscribe(topic, pid)

    def broadcast(self, topic: str, event: str, payload: Any) -> None:
        """`Endpoint.broadcast!/3`. See `broadcast`."""
        broadcast(self.pubsub, topic, event, payload)

    def broadcast_from(self, from_: Pid | None, topic: str, event: str, payload: Any) -> None:
        """`Endpoint.broadcast_from!/4`. See `broadcast_from`."""
        broadcast_from(self.pubsub, from_, topic, event, payload)

    def local_broadcast(self, topic: str, event: str, payload: Any) -> None:
        """`Endpoint.local_broadcast/3`. See `local_broadcast`."""
        local_broadcast(self.pubsub, topic, event, payload)

    def local_broadcast_from(self, from_: Pid | None, topic: str, event: str, payload: Any) -> None:
        """`Endpoint.local_broadcast_from/4`. See `local_broadcast_from`."""
        local_broadcast_from(self.pubsub, from_, topic, event, payload)

    def disconnect(self, socket_id: str) -> None:
        """Closes all sockets with this `id()`, by a "disconnect" broadcast."""
        self.broadcast(socket_id, "disconnect", {})


def broadcast(pubsub_name: str | PubSub, topic: str, event: str, payload: Any) -> None:
    """`Endpoint.broadcast!/3`: sends an event to all channels of `topic`, and a `Broadcast` to all other subscribers.

    `payload` is a dict, or bytes for a binary message. Raises TypeError if topic or event is not a string, Error("noproc") if the
    PubSub does not run, and what a serializer raises for the payload.
    """
    pubsub.whereis(pubsub_name).broadcast(topic, _broadcast(topic, event, payload), fastlane)


def broadcast_from(
    pubsub_name: str | PubSub, from_: Pid | None, topic: str, event: str, payload: Any
) -> None:
    """`Endpoint.broadcast_from!/4`: as broadcast, but not to the process `from_` (None: the caller)."""
    pubsub.whereis(pubsub_name).broadcast_from(
        _sender(from_), topic, _broadcast(topic, event, payload), fastlane
    )


def local_broadcast(pubsub_name: str | PubSub, topic: str, event: str, payload: Any) -> None:
    """`Endpoint.local_broadcast/3`: as broadcast, to the subscribers on this node only."""
    pubsub.whereis(pubsub_name).local_broadcast(topic, _broadcast(topic, event, payload), fastlane)


def local_broadcast_from(
    pubsub_name: str | PubSub, from_: Pid | None, topic: str, event: str, payload: Any
) -> None:
    """`Endpoint.local_broadcast_from/4`: as broadcast_from, to the subscribers on this node only."""
    message = _broadcast(topic, event, payload)
    pubsub.whereis(pubsub_name).local_broadcast(topic, message, fastlane, _sender(from_))


def direct_broadcast(pubsub_name: str | PubSub, node: str, topic: str, event: str, payload: Any) -> None:
    """As broadcast, to the subscribers on one node only."""
    pubsub.whereis(pubsub_name).direct_broadcast(node, topic, _broadcast(topic, event, payload), fastlane)


def _sender(from_: Pid | None) -> Pid | None:
    return scheduler.current.pid if from_ is None and scheduler.current is not None else from_


def _broadcast(topic: Any, event: Any, payload: Any) -> Broadcast:
    if not isinstance(topic, str) or not isinstance(event, str):
        raise TypeError("topic and event of a broadcast must be strings")
    return Broadcast(topic, event, payload)

"""Phoenix.PubSub.PG2: the adapter by which a PubSub reaches the PubSubs of its name on the other nodes.

One message for each connected node goes to the PubSub process there, which delivers to its own subscribers. So the order of what
one node sends to another is kept, whichever function sends it; delivery is at most once; a node that is not connected misses it.
The message is encoded once for all nodes, and decoded by those that have subscribers to its topic.

A dispatcher is a function, which does not travel: its name does. One that is broadcast with must be known on every node by
`register_dispatcher`; Phoenix's own are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.core.engine import current_engine
from runtime.nodes import codec
from runtime.phoenix.endpoint import fastlane
from runtime.phoenix.messages import Broadcast
from runtime.phoenix.pubsub import Dispatcher, PubSub, send_to_each

if TYPE_CHECKING:
    from runtime.nodes.node import Node

_names: dict[Dispatcher, str] = {}
_dispatchers: dict[str, Dispatcher] = {}


def register_dispatcher(dispatcher: Dispatcher, name: str) -> None:
    """Lets broadcasts with this dispatcher reach other nodes. Raises ValueError if the name is another one's."""
    if _dispatchers.setdefault(name, dispatcher) is not dispatcher:
        raise ValueError(f"{name} is another dispatcher")
    _names[dispatcher] = name


register_dispatcher(send_to_each, "send")
register_dispatcher(fastlane, "fastlane")


@dataclass(frozen=True, slots=True)
class ForwardToLocal:
    """A broadcast on its way to another node; `message` is encoded."""

    topic: str
    dispatcher: str
    message: bytes


@dataclass(frozen=True, slots=True)
class ChannelBroadcast:
    """A `Broadcast` as it travels; its topic is that of the envelope."""

    event: str
    payload: Any


codec.register(ForwardToLocal)
codec.register(ChannelBroadcast)


class NodesPubSub(PubSub):
    """A PubSub that reaches the other nodes if its engine is a node when it starts."""

    def init(self) -> None:  # type: ignore[override]
        super().init()
        node = current_engine().node
        if node is not None:
            self.adapter = PG2(self, self._myRef.get_name(), node)


class PG2:
    """The adapter of one PubSub on one node."""

    def __init__(self, pubsub: PubSub, name: str, node: Node) -> None:
        self._pubsub = pubsub
        self._name = name
        self._node = node
        self._process: Callable[[Any], bool] = pubsub.pid.cell.deliver

    def node_name(self) -> str:
        """The name of this node."""
        return self._node.name

    def broadcast(self, topic: str, message: Any, dispatcher: Dispatcher) -> None:
        """To all connected nodes. Raises TypeError for what cannot travel."""
        others = self._node.nodes()
        if others:
            forwarded = self._forwarded(topic, message, dispatcher)
            for other in others:
                self._send(other, forwarded)

    def direct_broadcast(self, node: str, topic: str, message: Any, dispatcher: Dispatcher) -> None:
        """To one node. Raises TypeError for what cannot travel."""
        if node == self._node.name:
            self._process(self._forwarded(topic, message, dispatcher))
        elif node in self._node.nodes():
            self._send(node, self._forwarded(topic, message, dispatcher))

    def receive(self, message: Any) -> None:
        """A broadcast has come from another node."""
        if type(message) is not ForwardToLocal:
            return
        forwarded = message
        if not self._pubsub.has_subscribers(forwarded.topic):
            return
        dispatcher = _dispatchers.get(forwarded.dispatcher)
        if dispatcher is None:
            return  # of a program that is newer than this one
        message = self._node.codec.decode(forwarded.message)
        if type(message) is ChannelBroadcast:
            message = Broadcast(forwarded.topic, message.event, message.payload)
        self._pubsub.local_broadcast(forwarded.topic, message, dispatcher)

    def _forwarded(self, topic: str, message: Any, dispatcher: Dispatcher) -> ForwardToLocal:
        name = _names.get(dispatcher)
        if name is None:
            raise TypeError(f"the dispatcher {dispatcher!r} is not registered for other nodes")
        if type(message) is Broadcast:
            message = ChannelBroadcast(message.event, message.payload)
        return ForwardToLocal(topic, name, self._node.codec.encode(message))

    def _send(self, node: str, forwarded: ForwardToLocal) -> None:
        there = self._node.destination(self._name, node)
        if there is not None:
            there.cell.deliver(forwarded)

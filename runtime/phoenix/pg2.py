"""Phoenix.PubSub.PG2: the adapter that connects the PubSubs of one name on all nodes.

A broadcast sends one message to a worker on each connected node, which delivers it to the subscribers there. All broadcasts of a
process go through workers of the same name, so their order is kept. Delivery is at most once; a node that is not connected
misses the message. A message is encoded once for all nodes, and decoded only where its topic has subscribers.

A dispatcher is sent by name, so it has to be registered by `register_dispatcher` on every node; Phoenix's own are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runtime.core.engine import current_engine
from runtime.core.scheduling import scheduler
from runtime.nodes import codec
from runtime.otp import erlang
from runtime.otp.child_spec import SupFlags
from runtime.otp.gen_server import GenServer
from runtime.otp.supervisor import Supervisor
from runtime.phoenix.endpoint import fastlane
from runtime.phoenix.messages import Broadcast
from runtime.phoenix.pubsub import Dispatcher, PubSub, send_to_each

if TYPE_CHECKING:
    from runtime.nodes.node import Node

TOGETHER: Final = 50_000  # deliveries in one turn: some milliseconds

_names: dict[Dispatcher, str] = {}
_dispatchers: dict[str, Dispatcher] = {}


def register_dispatcher(dispatcher: Dispatcher, name: str) -> None:
    """Registers a dispatcher for broadcasts to other nodes. Raises ValueError if the name is taken."""
    if _dispatchers.setdefault(name, dispatcher) is not dispatcher:
        raise ValueError(f"{name} is another dispatcher")
    _names[dispatcher] = name


register_dispatcher(send_to_each, "send")
register_dispatcher(fastlane, "fastlane")


@dataclass(frozen=True, slots=True)
class ForwardToLocal:
    """`{:forward_to_local, ...}`: a broadcast to another node; `message` is encoded."""

    topic: str
    dispatcher: str
    message: bytes


@dataclass(frozen=True, slots=True)
class ChannelBroadcast:
    """A `Broadcast` in a ForwardToLocal, which has its topic."""

    event: str
    payload: Any


codec.register(ForwardToLocal)
codec.register(ChannelBroadcast)


class NodesPubSub(PubSub):
    """A PubSub with the PG2 adapter, if its engine is a node when it starts.

    `pool_size` workers handle messages from other nodes. Broadcasts from here go through `broadcast_pool_size` of them (None:
    all), chosen by the pid of the broadcasting process. Raises ValueError if that is larger than `pool_size`.
    """

    async def init(  # type: ignore[override]
        self, pool_size: int = 1, broadcast_pool_size: int | None = None
    ) -> None:
        super().init()
        through = pool_size if broadcast_pool_size is None else broadcast_pool_size
        if not 1 <= through <= pool_size:
            raise ValueError(
                "pool_size must be greater than or equal to broadcast_pool_size, and that 1 or more"
            )
        node = current_engine().node
        if node is None:
            return
        name = f"{self._myRef.get_name()}.Adapter"
        names = [name, *(f"{name}_{number}" for number in range(2, pool_size + 1))]
        workers = [PG2Worker.child_spec(self, id=worker, name=worker) for worker in names]
        supervisor = f"{name}_supervisor"
        previous = erlang.whereis(supervisor)
        if previous is not None:  # of a killed PubSub: about to end
            await erlang.await_down(previous)
        await Supervisor.start_link(workers, SupFlags(intensity=3), name=supervisor)
        self.adapter = PG2(names[:through], node)


class PG2Worker(GenServer):
    """Delivers broadcasts of other nodes to the subscribers of this one, in order of arrival.

    Handles `ForwardToLocal`. If it crashes it is restarted; subscriptions are kept, messages that arrive meanwhile are lost.

    Broadcasts to one topic that wait in a row are delivered in a row, up to `TOGETHER` deliveries: so a subscriber wakes once for
    what a process of the other node broadcast in one turn, as it would on that node. A dispatcher other than the default one is
    called for each message, in a turn of its own if it takes long.
    """

    def init(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        self._codec = current_engine().node.codec

    def handle_info(self, message: Any) -> None:
        if type(message) is not ForwardToLocal or not self._pubsub.has_subscribers(message.topic):
            return
        dispatcher = _dispatchers.get(message.dispatcher)
        if dispatcher is None:
            return  # from a node with a newer version
        if dispatcher is send_to_each and (rest := self._waiting(message)):
            self._pubsub.local_broadcasts(message.topic, [self._content(one) for one in (message, *rest)])
        else:
            self._pubsub.local_broadcast(message.topic, self._content(message), dispatcher)

    def _waiting(self, first: ForwardToLocal) -> list[ForwardToLocal]:
        """Takes the broadcasts behind `first` that go the same way, until one that does not."""
        topic, dispatcher = first.topic, first.dispatcher
        return self._myRef.take_while(
            lambda other: (
                type(other) is ForwardToLocal and other.topic == topic and other.dispatcher == dispatcher
            ),
            TOGETHER // self._pubsub.subscriptions(topic),
        )

    def _content(self, forwarded: ForwardToLocal) -> Any:
        content = self._codec.decode(forwarded.message)
        if type(content) is ChannelBroadcast:
            return Broadcast(forwarded.topic, content.event, content.payload)
        return content


class PG2:
    """The adapter of one PubSub on one node: `workers` are the registered names through which it broadcasts."""

    def __init__(self, workers: Sequence[str], node: Node) -> None:
        self._workers = workers
        self._node = node

    def node_name(self) -> str:
        """The name of this node."""
        return self._node.name

    def broadcast(self, topic: str, message: Any, dispatcher: Dispatcher) -> None:
        """Sends to all connected nodes. Raises TypeError if the message or dispatcher cannot be sent."""
        if self._node.connections():
            self._node.send_to_others(self._worker(), self._forwarded(topic, message, dispatcher))

    def direct_broadcast(self, node: str, topic: str, message: Any, dispatcher: Dispatcher) -> None:
        """Sends to one node. Raises TypeError if the message or dispatcher cannot be sent."""
        if node == self._node.name or node in self._node.nodes():
            there = self._node.destination(self._worker(), node)
            if there is not None:
                there.cell.deliver(self._forwarded(topic, message, dispatcher))

    def _worker(self) -> str:
        """The worker for all broadcasts of the running process, which keeps their order."""
        workers = self._workers
        if len(workers) == 1 or scheduler.current is None:
            return workers[0]
        return workers[scheduler.current.id % len(workers)]

    def _forwarded(self, topic: str, message: Any, dispatcher: Dispatcher) -> ForwardToLocal:
        name = _names.get(dispatcher)
        if name is None:
            raise TypeError(f"the dispatcher {dispatcher!r} is not registered for other nodes")
        if type(message) is Broadcast:
            message = ChannelBroadcast(message.event, message.payload)
        return ForwardToLocal(topic, name, self._node.codec.encode(message))

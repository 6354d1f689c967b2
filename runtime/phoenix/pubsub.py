"""Phoenix.PubSub: topics, subscribers and broadcasts, with the subscription metadata that Phoenix's fastlane needs.

A `PubSub` is a GenServer whose tables all processes read and write directly. It handles no messages; it exists to be supervised,
and its subscriptions end with it. The subscriptions of a process end with that process, before any monitor of it fires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from runtime.core.engine import current_engine
from runtime.core.exits import Error
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.scheduling import scheduler
from runtime.otp.gen_server import GenServer


class Subscription(tuple[Pid, Any]):
    """`(pid, metadata)`. A process that subscribes twice has two and gets every message twice."""

    __slots__ = ()
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__  # type: ignore[assignment]


Dispatcher = Callable[[Iterable[Subscription], Pid | None, Any], None]


class Adapter(Protocol):
    """Sends broadcasts to other nodes (`Phoenix.PubSub.Adapter`).

    It is called before the local dispatch, and passes messages of other nodes to `PubSub.local_broadcast`. It keeps the order of
    all messages from one process to one node.
    """

    def node_name(self) -> str:
        """The name of this node."""
        ...

    def broadcast(self, topic: str, message: Any, dispatcher: Dispatcher) -> None:
        """Sends a message to the other nodes."""
        ...

    def direct_broadcast(self, node: str, topic: str, message: Any, dispatcher: Dispatcher) -> None:
        """Sends a message to one node, which may be this one; dropped if that is not connected."""
        ...


NO_NODE: Final = "nonode@nohost"


def send_to_each(subscribers: Iterable[Subscription], from_: Pid | None, message: Any) -> None:
    """`Phoenix.PubSub.dispatch/3`: sends the message to every subscriber but the sender."""
    for pid, _metadata in subscribers:
        if pid is not from_:
            pid.cell.deliver(message)


class PubSub(GenServer):
    """`Phoenix.PubSub`. `PubSub.start_link(name=...)` starts one; `whereis` finds it by that name."""

    def init(self, adapter: Adapter | None = None) -> None:
        self.adapter = adapter
        self._topics: dict[str, dict[Subscription, None]] = {}
        # The subscriptions of each process: one pair, or a list once there are several.
        self._holders: dict[Pid, Any] = {}
        self._hook = self._exited

    def subscribe(self, topic: str, pid: Pid | None = None, metadata: Any = None) -> None:
        """`subscribe/3`: subscribes a process, by default the caller, to a topic. Raises TypeError if that is no string."""
        if type(topic) is not str:
            raise _no_topic(topic)
        if pid is None:
            if scheduler.current is None:
                raise RuntimeError("subscribe() outside of a process needs a pid")
            pid = scheduler.current.pid
        cell = pid.cell
        if cell.execution.mode == DEAD:
            return
        subscription = Subscription((pid, metadata))
        subscribers = self._topics.get(topic)
        if subscribers is None:
            subscribers = self._topics[topic] = {}
        subscribers[subscription] = None
        held: Any = self._holders.get(pid)
        if held is None:
            self._holders[pid] = (topic, subscription)
            cell.on_exit(self._hook)
        elif type(held) is list:
            held.append((topic, subscription))
        else:
            self._holders[pid] = [held, (topic, subscription)]

    def unsubscribe(self, topic: str, pid: Pid | None = None) -> None:
        """`unsubscribe/2`: removes all subscriptions of a process, by default the caller, to a topic.

        Raises TypeError if that is no string.
        """
        if type(topic) is not str:
            raise _no_topic(topic)
        if pid is None:
            if scheduler.current is None:
                raise RuntimeError("unsubscribe() outside of a process needs a pid")
            pid = scheduler.current.pid
        held: Any = self._holders.get(pid)
        if held is None:
            return
        pairs: list[tuple[str, Subscription]] = held if type(held) is list else [held]
        rest: list[tuple[str, Subscription]] = []
        for pair in pairs:
            if pair[0] == topic:
                self._drop(*pair)
            else:
                rest.append(pair)
        self._holders[pid] = rest  # kept even if empty, as the exit hook is set

    def broadcast(self, topic: str, message: Any, dispatcher: Dispatcher = send_to_each) -> None:
        """`broadcast/4`: sends a message to the subscribers of a topic on all nodes."""
        if self.adapter is not None:
            self.adapter.broadcast(topic, message, dispatcher)
        self.local_broadcast(topic, message, dispatcher)

    def broadcast_from(
        self, from_: Pid | None, topic: str, message: Any, dispatcher: Dispatcher = send_to_each
    ) -> None:
        """`broadcast_from/5`: as `broadcast`, but not to `from_`."""
        if self.adapter is not None:
            self.adapter.broadcast(topic, message, dispatcher)
        self.local_broadcast(topic, message, dispatcher, from_)

    def direct_broadcast(
        self, node: str, topic: str, message: Any, dispatcher: Dispatcher = send_to_each
    ) -> None:
        """`direct_broadcast/5`: as `broadcast`, to the subscribers on one node; dropped if that is not connected."""
        if self.adapter is not None:
            self.adapter.direct_broadcast(node, topic, message, dispatcher)
        elif node == NO_NODE:
            self.local_broadcast(topic, message, dispatcher)

    def node_name(self) -> str:
        """`node_name/1`: the name of this node; "nonode@nohost" without an adapter."""
        return NO_NODE if self.adapter is None else self.adapter.node_name()

    def local_broadcast(
        self, topic: str, message: Any, dispatcher: Dispatcher = send_to_each, from_: Pid | None = None
    ) -> None:
        """`local_broadcast/4`: as `broadcast`, to the subscribers on this node."""
        subscribers = self._topics.get(topic)
        if subscribers:
            # A copy: a dispatcher may run code that subscribes or ends a process.
            dispatcher(tuple(subscribers), from_, message)

    def local_broadcasts(self, topic: str, messages: Sequence[Any]) -> None:
        """`local_broadcast` of each of the messages with the default dispatcher, for less than their number of them costs.

        Nothing runs between them, so each subscriber gets them in a row.
        """
        for pid, _metadata in tuple(self._topics.get(topic, ())):
            pid.cell.deliver_all(messages)

    def subscriptions(self, topic: str) -> int:
        """The number of subscriptions to a topic on this node."""
        return len(self._topics.get(topic, ()))

    def has_subscribers(self, topic: str) -> bool:
        """True if the topic has subscribers on this node."""
        return topic in self._topics

    def subscribers(self, topic: str) -> list[Pid]:
        """The subscribers of a topic on this node, oldest first."""
        return [subscription[0] for subscription in self._topics.get(topic, ())]

    def count(self) -> tuple[int, int]:
        """The number of topics with subscribers, and of subscriptions."""
        return len(self._topics), sum(map(len, self._topics.values()))

    def _drop(self, topic: str, subscription: Subscription) -> None:
        subscribers = self._topics.get(topic)
        if subscribers is not None:
            subscribers.pop(subscription, None)
            if not subscribers:
                del self._topics[topic]

    def _exited(self, pid: Pid) -> None:
        held: Any = self._holders.pop(pid, None)
        if type(held) is list:
            for pair in held:
                self._drop(*pair)
        elif held is not None:
            self._drop(*held)

    def format_status(self) -> Any:
        topics, subscriptions = self.count()
        return {"topics": topics, "subscriptions": subscriptions}


def _no_topic(topic: Any) -> TypeError:
    return TypeError(f"a topic must be a string, got {topic!r}")


def whereis(name: str | PubSub) -> PubSub:
    """The PubSub registered under a name. Raises Error("noproc") if it does not run."""
    if isinstance(name, PubSub):
        return name
    cell = current_engine().names.get(name)
    if cell is None or not isinstance(cell.actor, PubSub):
        raise Error("noproc")
    return cell.actor


def subscribe(pubsub: str | PubSub, topic: str, metadata: Any = None) -> None:
    """`Phoenix.PubSub.subscribe/3` for the running process."""
    whereis(pubsub).subscribe(topic, None, metadata)


def unsubscribe(pubsub: str | PubSub, topic: str) -> None:
    """`Phoenix.PubSub.unsubscribe/2` for the running process."""
    whereis(pubsub).unsubscribe(topic)


def broadcast(pubsub: str | PubSub, topic: str, message: Any) -> None:
    """`Phoenix.PubSub.broadcast/3`."""
    whereis(pubsub).broadcast(topic, message)


def broadcast_from(pubsub: str | PubSub, from_: Pid, topic: str, message: Any) -> None:
    """`Phoenix.PubSub.broadcast_from/4`."""
    whereis(pubsub).broadcast_from(from_, topic, message)


def direct_broadcast(pubsub: str | PubSub, node: str, topic: str, message: Any) -> None:
    """`Phoenix.PubSub.direct_broadcast/4`."""
    whereis(pubsub).direct_broadcast(node, topic, message)


def node_name(pubsub: str | PubSub) -> str:
    """`Phoenix.PubSub.node_name/1`."""
    return whereis(pubsub).node_name()

"""The observer: takes a sample each second, and publishes it, reports and changes of the tree to the operators' channels.

Topic `admin:observer:NODE` is about that node, whichever node the console's socket is on; `admin:observer` is about the socket's
own node. Events: `stats` (one sample), `tree` (the tree without the children of dynamic supervisors, when it has changed),
`report` (crash and supervisor reports, shortened) and `missed` (how many more there were). Reports are published every FLUSH_MS,
at most MAX_REPORTS at once, so that a storm of crashes costs little. Without subscribers nothing is computed. An observer whose
node has subscribers for another node's topic renews its `WatchFrom` there each second.

Messages: `SampleDue` and `PublishReports`, its own timers. Cast: `WatchFrom` of other nodes' observers. Samples and reports are
kept by `actors.instruments`, and survive its crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from actors.cluster.member import own_name
from actors.instruments import Instruments, instruments
from actors.ledger import server as ledger_server
from actors.storage.repo import Unavailable
from runtime import Error, Exit, GenServer, current_engine, erlang, gen_server, telemetry
from runtime.nodes import codec, net_kernel
from runtime.observe import supervision_tree
from runtime.observe.report_log import LoggedReport
from runtime.phoenix.endpoint import direct_broadcast, local_broadcast
from runtime.phoenix.pubsub import whereis

TOPIC: Final = "admin:observer"
TICK_MS: Final = 1000
WATCH_SECONDS: Final = 3.5  # how long a `WatchFrom` is valid
LAG_MS: Final = 100
FLUSH_MS: Final = 80
MAX_REPORTS: Final = 20
LAG: Final = ("runtime", "event_loop_lag")


@dataclass(frozen=True, slots=True)
class SampleDue:
    """Time for a sample."""


@dataclass(frozen=True, slots=True)
class PublishReports:
    """Time to publish the reports that have come in."""


@dataclass(frozen=True, slots=True)
class WatchFrom:
    """Consoles on `node` watch the node of the observer that gets this."""

    node: str


codec.register(WatchFrom)


class Observer(GenServer):
    """The process behind the console. `root` is the name of the tree's root, `pubsub` that of the PubSub."""

    def init(self, root: str = "root", pubsub: str = "pubsub") -> None:
        self.root, self.pubsub = root, pubsub
        self.instruments: Instruments = instruments()
        self.pending: list[LoggedReport] = []
        self.missed = 0
        self.flushing = False
        self.shown: dict[str, Any] | None = None
        self.watching: dict[str, float] = {}  # other nodes with subscribers for this one -> until when
        self.own_topic = f"{TOPIC}:{own_name()}"
        self.engine = current_engine()
        listener = self._on_report
        self.instruments.reports.listeners.append(listener)
        self.on_exit(lambda _pid: self.instruments.reports.listeners.remove(listener))
        self._due = self.engine.now() + LAG_MS / 1000
        self._lag_timer = self.engine.call_later(LAG_MS / 1000, self._measure_lag)
        self.on_exit(lambda _pid: self._lag_timer.cancel())
        erlang.send_after(TICK_MS, self.pid, SampleDue())

    def handle_cast(self, request: Any) -> Any:
        match request:
            case WatchFrom(node):
                if node not in self.watching:
                    self.shown = None
                self.watching[node] = self.now() + WATCH_SECONDS
                return None
        return super().handle_cast(request)

    def handle_info(self, message: Any) -> Any:
        match message:
            case SampleDue():
                erlang.send_after(TICK_MS, self.pid, SampleDue())
                sample = self.instruments.sample(self.engine)
                if sample["ledger_seq"] is None and sample["database"] == "up":
                    erlang.spawn(_read_head)
                self._watch_others()
                if self._watched():
                    self._publish("stats", sample)
                    self._show_tree()
                else:
                    self.shown = None
            case PublishReports():
                self.flushing = False
                self._flush()
        return None

    def _measure_lag(self) -> None:
        # A callback of the loop, not a message: waiting in this process's mailbox must not count as lag.
        now = self.engine.now()
        lag = max(0.0, now - self._due)
        self.instruments.lag = max(self.instruments.lag, lag)
        telemetry.execute(LAG, {"lag": lag}, {})
        self._due = now + LAG_MS / 1000
        self._lag_timer = self.engine.call_later(LAG_MS / 1000, self._measure_lag)

    def _on_report(self, entry: LoggedReport) -> None:
        """Queues a report. Called while a process dies, so it must be quick."""
        if entry.report.kind != "progress":
            if len(self.pending) < MAX_REPORTS:
                self.pending.append(entry)
            else:
                self.missed += 1
        if not self.flushing:
            self.flushing = True
            erlang.send_after(FLUSH_MS, self.pid, PublishReports())

    def _flush(self) -> None:
        pending, self.pending = self.pending, []
        missed, self.missed = self.missed, 0
        if not self._watched():
            return
        for entry in pending:
            self._publish("report", entry.as_dict(full=False))
        if missed:
            self._publish("missed", {"reports": missed})
        self._show_tree()

    def _show_tree(self) -> None:
        tree = supervision_tree.tree(self.root, limit=0, engine=self.engine)
        if tree is not None and tree != self.shown:
            self.shown = tree
            self._publish("tree", tree)

    def _watch_others(self) -> None:
        self.watching = {node: until for node, until in self.watching.items() if until > self.now()}
        for node in net_kernel.nodes():
            if self._subscribed(f"{TOPIC}:{node}"):
                gen_server.cast(("observer", node), WatchFrom(net_kernel.node()))

    def _subscribed(self, topic: str) -> bool:
        try:
            return whereis(self.pubsub).has_subscribers(topic)
        except Error:
            return False

    def _watched(self) -> bool:
        return bool(self.watching) or self._subscribed(self.own_topic) or self._subscribed(TOPIC)

    def _publish(self, event: str, payload: dict[str, Any]) -> None:
        try:
            for topic in (TOPIC, self.own_topic):
                local_broadcast(self.pubsub, topic, event, payload)
            for node in self.watching:
                direct_broadcast(self.pubsub, node, self.own_topic, event, payload)
        except Error:
            self.shown = None

    def format_status(self) -> Any:
        return {"root": self.root, "pending": len(self.pending), "samples": len(self.instruments.samples)}


async def _read_head() -> None:
    """Makes the ledger server read its head, which it does on its first call."""
    try:
        await ledger_server.head()
    except (Unavailable, Exit):
        pass  # tried again at the next sample

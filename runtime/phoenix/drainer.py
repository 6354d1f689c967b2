"""The owner of all socket connections: their timeouts, and draining at a shutdown.

`Sockets` is a GenServer under a registered name. It starts transports as processes, and looks at one interval at those
that may be past their timeout, so that no connection needs a timer of its own: a timing wheel keeps the silent ones
apart, and a frame or message that has begun and is not whole is watched while that lasts. It takes its own `_SWEEP`
message. If it ends, all its connections are sent away.

`drain` is `Phoenix.Socket.PoolDrainer`: it closes the connections in batches, spread over time, because each client reconnects
at once.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final, Protocol

from runtime.core.engine import current_engine
from runtime.core.exits import Error
from runtime.core.modes import IDLE
from runtime.core.pid import Pid, Ref
from runtime.otp import erlang
from runtime.otp.gen_server import GenServer
from runtime.phoenix.messages import Broadcast
from runtime.phoenix.socket import SocketTransport
from runtime.phoenix.timing_wheel import TimingWheel
from runtime.phoenix.websocket import CloseConnection, WebSocketConnection

CLOSE_TIMEOUT: Final = 5.0  # seconds a peer has to take the last bytes and close
_SWEEPS: Final = 25  # sweeps within the shortest timeout
_TICKS: Final = 50  # in which a timeout is measured
_SWEEP: Final = "sweep"


class ClosingConnection(Protocol):
    """A connection that waits for its peer to close."""

    def abort(self) -> None:
        """Closes it at once; no effect if it is closed."""
        ...


class Sockets(GenServer):
    """All connections of an endpoint."""

    def init(self, *args: Any) -> None:
        self.transports: dict[Pid, SocketTransport] = {}
        self._closing: dict[ClosingConnection, float] = {}
        self._silent: TimingWheel[WebSocketConnection] = TimingWheel()  # those with a timeout
        self._begun: dict[WebSocketConnection, tuple[int, float]] = {}  # how many before it, and since when
        self._hook = self._gone
        self._shortest: float | None = None
        self._timer: Ref | None = None
        self.on_exit(self._close_all)

    def open(self, transport: SocketTransport) -> Pid:
        """Starts the process of a transport and watches its timeouts."""
        cell = self._myRef.execution.engine.spawn_actor(transport, self._myRef)
        self.transports[cell] = transport
        cell.on_exit(self._hook)
        if isinstance(transport, WebSocketConnection):
            options = transport.options
            transport.keeper = self
            if options.timeout is not None:
                self._expect(transport, self.now() + options.timeout / 1000, options.timeout / 1000)
            self._watch(min(options.timeout or options.frame_timeout, options.frame_timeout) / 1000)
        return cell

    def frame_begun(self, connection: WebSocketConnection) -> None:
        """A frame or message has come in part: the rest has `frame_timeout` from its first part on."""
        number = connection.parser.completed
        begun = self._begun.get(connection)
        if begun is None or begun[0] != number:
            self._begun[connection] = (number, self.now())

    def await_close(self, connection: ClosingConnection) -> None:
        """Aborts a closing connection unless its peer closes it within CLOSE_TIMEOUT seconds."""
        self._closing[connection] = self.now() + CLOSE_TIMEOUT
        self._watch(CLOSE_TIMEOUT)

    def closed(self, connection: ClosingConnection) -> None:
        """The peer has closed."""
        self._closing.pop(connection, None)

    def _watch(self, seconds: float) -> None:
        if self._shortest is None or seconds < self._shortest:
            self._shortest = seconds
            if self._timer is not None:
                erlang.cancel_timer(self._timer)
                self._timer = None
        if self._timer is None:
            self._sweep_later()

    def _sweep_later(self) -> None:
        assert self._shortest is not None
        interval = min(max(self._shortest / _SWEEPS, 0.02), 2.0)
        self._timer = erlang.send_after(interval * 1000, self.pid, _SWEEP)

    def handle_info(self, message: Any) -> Any:
        if message == _SWEEP:
            self._sweep(self.now())
            if self.transports or self._closing:
                self._sweep_later()
            else:
                self._timer = self._shortest = None

    def _expect(self, connection: WebSocketConnection, due: float, timeout: float) -> None:
        connection.slot = self._silent.put(connection, due, min(max(timeout / _TICKS, 0.01), 1.0))

    def _sweep(self, now: float) -> None:
        for connection, (number, since) in list(self._begun.items()):
            parser = connection.parser
            if not parser.begun or parser.completed != number:
                del self._begun[connection]
            elif now - since >= connection.options.frame_timeout / 1000:
                del self._begun[connection]
                connection.pid.cell.deliver(CloseConnection(1002, ("shutdown", "frame_timeout")))
        for connection in self._silent.take(now):
            assert connection.options.timeout is not None
            timeout = connection.options.timeout / 1000
            # A connection that has not started yet or waits for a join is not idle.
            if connection.pid.cell.execution.mode != IDLE:
                self._expect(connection, now, timeout)
            elif now - connection.last_seen < timeout:
                self._expect(connection, connection.last_seen + timeout, timeout)
            else:
                connection.pid.cell.deliver(CloseConnection(1002, ("shutdown", "read_timeout")))
        for closing in [late for late, deadline in self._closing.items() if deadline <= now]:
            del self._closing[closing]
            closing.abort()

    def _gone(self, pid: Pid) -> None:
        transport = self.transports.pop(pid, None)
        if transport is not None:
            transport.release()
        if isinstance(transport, WebSocketConnection):
            self._begun.pop(transport, None)
            self._silent.remove(transport, transport.slot)
            if not transport.closing:  # it was killed: the client has not been told
                transport.closing = True
                transport.io.close()

    def _close_all(self, pid: Pid) -> None:
        for transport in list(self.transports.values()):
            send_away(transport)

    def format_status(self) -> Any:
        return {"transports": len(self.transports), "closing": len(self._closing)}


def whereis(name: str) -> Sockets:
    """The Sockets process registered under a name. Raises Error("noproc") if it does not run."""
    cell = current_engine().names.get(name)
    if cell is None or not isinstance(cell.actor, Sockets):
        raise Error("noproc")
    return cell.actor


def send_away(transport: SocketTransport) -> None:
    """Closes a connection because the server stops: with code 1012 if it has a channel, else 1000."""
    code = 1012 if transport.channels else 1000
    if isinstance(transport, WebSocketConnection):
        transport.pid.cell.deliver(CloseConnection(code, ("shutdown", "shutdown")))
    else:
        erlang.exit(transport.pid, "shutdown")


def _drain_one(transport: SocketTransport) -> None:
    if transport.channels:
        for entry in transport.channels.values():
            entry.pid.cell.deliver(Broadcast(entry.topic, "phx_drain", {}))
    else:
        send_away(transport)


async def drain(
    name: str = "sockets", batch_size: int = 1_000, batch_interval: float = 1_000, timeout: float = 30_000
) -> int:
    """Closes all connections and returns how many there were.

    Channels end with `("shutdown", "draining")`; a socket with channels closes with code 1012, one without with 1000.
    `batch_size` sockets are closed per `batch_interval` ms, each at a random time within the interval. Those that are still open
    after `timeout` ms are closed without their channels, and so are those opened meanwhile: a client reconnects within
    milliseconds while the server listens.
    """
    sockets = whereis(name)
    engine = current_engine()
    started = engine.now()
    there = list(sockets.transports)
    waiting = list(sockets.transports.values())
    chance = Random(engine.unique_bytes(16))
    chance.shuffle(waiting)
    while waiting:
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        spread = batch_interval / 1000 * len(batch) / batch_size
        for transport in batch:
            engine.call_later(chance.random() * spread, _drain_one, transport)
        await erlang.sleep(spread * 1000 + 1)
    while (engine.now() - started) * 1000 < timeout and any(pid in sockets.transports for pid in there):
        await erlang.sleep(10)
    for transport in list(sockets.transports.values()):
        send_away(transport)
    return len(there)

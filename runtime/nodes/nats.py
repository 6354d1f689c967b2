"""The fabric on core NATS (nats-py): a subject for each node and one for all nodes; at-most-once delivery.

A frame for one node is published with a reply subject, so the server answers "no responders" (status 503) if the node has no
subscription: the loss of a node is noticed with the next frame sent to it. Frames to one node keep their order; a frame to all
may be overtaken by a later one to a single node.

Frames for one node that are published in the same turn of the loop are sent as one NATS message, a batch.

While the server is disconnected, frames are dropped and not buffered: they would arrive after the nodes have given each other up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from runtime.nodes.fabric import FabricListener
from runtime.nodes.nats_client import (
    PROBE_SECONDS,
    RECONNECT_SECONDS,
    NatsClient,
    NatsOptions,
    node_of,
    token_of,
    why,
)

_log: Final = logging.getLogger("runtime.nodes")

PING_SECONDS: Final = 5  # a half-open connection to the server is noticed after two or three pings
PENDING_BYTES: Final = 256 * 1024 * 1024  # of received frames that this node has not handled
PENDING_FRAMES: Final = 1_000_000
ALL: Final = "all"
BATCH: Final = b"M"  # first byte of a batch; no frame begins with it
BATCH_BYTES: Final = 64 * 1024  # a larger frame is sent alone
LENGTH: Final = 4
NO_RESPONDERS: Final = "503"


@dataclass(slots=True)
class Counts:
    """Frames sent and dropped, losses of the connection to the server, and errors by their text, since the start."""

    sent: int = 0
    dropped: int = 0
    interruptions: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class NatsFabric:
    """One node's fabric. Use it on the running asyncio loop; call `close` when the node has stopped."""

    def __init__(self, options: NatsOptions) -> None:
        self.options = options
        self.counts = Counts()
        self._client: Client | None = None
        self._listener: FabricListener | None = None
        self._own = ""
        self._inbox = ""
        self._waiting: list[tuple[str, str, bytes]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._subjects: dict[str | None, tuple[str, str]] = {}
        self._away = False

    @property
    def connected(self) -> bool:
        """True while connected to a server."""
        return self._client is not None and self._client.is_connected

    @property
    def messages(self) -> int:
        """NATS messages published since the start: batches and single frames."""
        return 0 if self._client is None else self._client.stats["out_msgs"]

    @property
    def server(self) -> str:
        """The connected server as `host:port`; empty if there is none."""
        client = self._client
        url = client.connected_url if client is not None and client.is_connected else None
        return "" if url is None else f"{url.hostname}:{url.port}"

    # ---- runtime.nodes.fabric.Fabric

    def subscribe(self, node: str, listener: FabricListener) -> None:
        """Connects in the background, retrying until it succeeds; then calls `listener.up()`."""
        assert self._listener is None, "a fabric carries one node"
        self._listener = listener
        self._own = token_of(node)
        self._inbox = f"{self.options.prefix}.nobody.{self._own}"
        self._subjects[None] = f"{self.options.prefix}.{ALL}", ""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"nats {node}")

    def unsubscribe(self) -> None:
        """Leaves the fabric at once: the listener is not called any more."""
        self._listener = None
        self._waiting.clear()

    def publish(self, node: str | None, frame: bytes) -> None:
        """Queues the frame, which is sent in the next turn of the loop, or drops it while disconnected."""
        if self._listener is None or not self.connected:
            self.counts.dropped += 1
            return
        subjects = self._subjects.get(node)
        if subjects is None:
            assert node is not None
            token = token_of(node)
            subjects = self._subjects[node] = f"{self.options.prefix}.to.{token}", f"{self._inbox}.{token}"
        self._waiting.append((*subjects, frame))
        self._wake.set()

    async def close(self) -> None:
        """Sends what was published, then closes the connection."""
        client, self._client = self._client, None
        task, self._task = self._task, None
        if client is not None and client.is_connected:
            await self._write(client)
        self.unsubscribe()
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        if client is not None and not client.is_closed:
            await client.close()

    # ---- the connection

    async def _run(self) -> None:
        # `connect` retries without limit, and so does the client when the connection is lost.
        client = self._client = NatsClient(self.options.secure)
        await client.connect(
            **self.options.arguments(),
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_SECONDS,
            connect_timeout=PROBE_SECONDS,
            ping_interval=PING_SECONDS,
        )
        limits: dict[str, Any] = {"pending_msgs_limit": PENDING_FRAMES, "pending_bytes_limit": PENDING_BYTES}
        prefix = self.options.prefix
        await client.subscribe(f"{prefix}.to.{self._own}", cb=self._received, **limits)
        await client.subscribe(f"{prefix}.{ALL}", cb=self._received, **limits)
        await client.subscribe(f"{self._inbox}.*", cb=self._answered)
        # nats-py writes the PING of a flush before its buffer. The first flush writes the buffer; the PONG of the second
        # confirms that the server has the subscriptions.
        await client.flush()
        await client.flush()
        if self._listener is not None:
            self._listener.up()
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write(client)

    async def _write(self, client: Client) -> None:
        waiting, self._waiting = self._waiting, []
        counts = self.counts
        for (subject, reply), frames in by_subject(waiting).items():
            for batch, number in batches(frames):
                try:
                    await client.publish(subject, batch, reply)
                except NatsError as error:
                    counts.dropped += number
                    await self._failed(error)
                else:
                    counts.sent += number

    async def _received(self, message: Msg) -> None:
        if self._listener is not None:
            for frame in frames_of(message.data):
                self._listener.received(frame)

    async def _answered(self, message: Msg) -> None:
        headers = message.headers
        if self._listener is not None and headers is not None and headers.get("Status") == NO_RESPONDERS:
            self._listener.unreachable(node_of(message.subject.rpartition(".")[2]))

    async def _disconnected(self) -> None:
        if self._listener is not None and not self._away:
            self._away = True
            self.counts.interruptions += 1
            _log.warning("the connection to NATS is lost")
            self._waiting.clear()
            self._listener.down()

    async def _reconnected(self) -> None:
        self._away = False
        if self._listener is not None:
            _log.info("connected to NATS at %s again", self.server)
            self._listener.up()

    async def _failed(self, error: Exception) -> None:
        text = why(error)
        count = self.counts.errors[text] = self.counts.errors.get(text, 0) + 1
        if count == 1:  # it repeats while the server is unreachable
            _log.warning("NATS: %s", text)


def by_subject(waiting: list[tuple[str, str, bytes]]) -> dict[tuple[str, str], list[bytes]]:
    """The frames of each subject and reply subject, in order."""
    frames: dict[tuple[str, str], list[bytes]] = {}
    for subject, reply, frame in waiting:
        frames.setdefault((subject, reply), []).append(frame)
    return frames


def batches(frames: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """Packs the frames into few NATS messages; yields each with its number of frames."""
    parts: list[bytes] = []
    size = 0
    for frame in frames:
        if parts and size + LENGTH + len(frame) > BATCH_BYTES:
            yield _batch(parts)
            parts, size = [], 0
        parts.append(frame)
        size += LENGTH + len(frame)
    if parts:
        yield _batch(parts)


def _batch(frames: list[bytes]) -> tuple[bytes, int]:
    if len(frames) == 1:
        return frames[0], 1
    parts = [BATCH]
    for frame in frames:
        parts += (len(frame).to_bytes(LENGTH, "big"), frame)
    return b"".join(parts), len(frames)


def frames_of(data: bytes) -> Iterator[bytes]:
    """The frames of a NATS message. A truncated frame is left out: its link finds the gap."""
    if data[:1] != BATCH:
        yield data
        return
    at = len(BATCH)
    while at + LENGTH <= len(data):
        end = at + LENGTH + int.from_bytes(data[at : at + LENGTH], "big")
        if end > len(data):
            return
        yield data[at + LENGTH : end]
        at = end

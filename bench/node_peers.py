"""One node for bench/benchmarks/nodes.py: `python -m bench.node_peers NAME URL` joins the cluster at the NATS server of this URL.

With `-` for the URL it is alone. It prints a line once it is there, then answers each line on standard input with one JSON line:
`cpu` (seconds of CPU so far), `subscribe N` (N processes to the topic), `received` (by them so far), and, against the node `b`,
`send N`, `call N`, `calls N` (of 32 callers), `broadcast N` (in bursts) and `broadcasts N` (one a turn), once the other node has
taken all: the seconds that took.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any

import uvloop

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.nodes import net_kernel
from runtime.nodes.nats import NatsFabric
from runtime.nodes.nats_client import NatsOptions
from runtime.nodes.node import Node
from runtime.otp import erlang, gen_server
from runtime.otp.gen_server import GenServer, Reply
from runtime.phoenix import pubsub as pubsubs
from runtime.phoenix.messages import Broadcast
from runtime.phoenix.pg2 import NodesPubSub

TOPIC = "transaction:0b5b1a52-6c2e-4d8e-9f0e-7d5c1f6a3b20"
MESSAGE = ("transaction", b"5f1c8c0e-3a53-4a6e-8d3f-1de4c47b8a11", 4711)
PAYLOAD = {
    "id": "5f1c8c0e-3a53-4a6e-8d3f-1de4c47b8a11",
    "user_id": "0b5b1a52-6c2e-4d8e-9f0e-7d5c1f6a3b20",
    "amount": "12.50",
    "currency": "EUR",
    "description": "no. 4711",
    "inserted_at": "2026-01-01T12:00:00.000000Z",
    "ledger_seq": 4711,
}
BURST = 50  # messages in one turn of the loop
CALLERS = 32
received = 0  # by the subscribers of this node


class Echo(GenServer):
    """Answers calls with their request."""

    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply(request)

    def handle_info(self, message: Any) -> None:
        return None


async def subscriber() -> None:
    """Takes what is broadcast."""
    global received
    pubsubs.subscribe("pubsub", TOPIC)
    while True:
        await erlang.receive()
        received += 1


async def send(count: int) -> None:
    """Messages to a process of the other node, and a call behind them."""
    for _ in range(count // BURST):
        for _ in range(BURST):
            erlang.send(("echo", "b"), MESSAGE)
        await asyncio.sleep(0)
    await gen_server.call(("echo", "b"), MESSAGE, None)


async def call(count: int) -> None:
    """One call after the other."""
    for _ in range(count):
        await gen_server.call(("echo", "b"), MESSAGE, None)


async def calls(count: int) -> None:
    """Calls of many processes at once."""
    pids = [erlang.spawn(call, count // CALLERS) for _ in range(CALLERS)]
    for pid in pids:
        await erlang.await_down(pid)


async def broadcast(count: int, burst: int = BURST) -> None:
    """Broadcasts, so many in one turn of the loop, and a call behind them."""
    pubsub = pubsubs.whereis("pubsub")
    for number in range(count):
        pubsub.broadcast(TOPIC, Broadcast(TOPIC, "new_transaction", PAYLOAD))
        if number % burst == 0:
            await asyncio.sleep(0)
    if net_kernel.nodes():
        await gen_server.call(("echo", "b"), MESSAGE, None)


async def broadcasts(count: int) -> None:
    """Broadcasts, one in each turn of the loop: its subscribers wake for every one."""
    await broadcast(count, 1)


TASKS = {"send": send, "call": call, "calls": calls, "broadcast": broadcast, "broadcasts": broadcasts}


async def perform(line: str) -> Any:
    """What a line asks for."""
    name, _, argument = line.strip().partition(" ")
    if name == "cpu":
        return time.process_time()
    if name == "received":
        return received
    if name == "subscribe":
        for _ in range(int(argument)):
            erlang.spawn(subscriber)
        return int(argument)
    done = asyncio.get_running_loop().create_future()

    async def run() -> None:
        started = time.perf_counter()
        await TASKS[name](int(argument))
        done.set_result(time.perf_counter() - started)

    erlang.spawn(run)
    return await done


async def main(name: str, url: str) -> None:
    """The program."""
    logging.disable(logging.CRITICAL)
    engine = AsyncioEngine().start()
    if url != "-":
        node = Node(engine, name, NatsFabric(NatsOptions((url,))), b"bench")
        node.start()
        while name == "a" and not node.nodes():
            node.up()
            await asyncio.sleep(0.02)
    await Echo.start(name="echo")
    await NodesPubSub.start(name="pubsub")
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await perform(line)), flush=True)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:3]))

"""The `websockets` package as its documentation uses it: echo, and a broadcast. `python -m bench.peers.websockets_app PORT`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

EVENT = json.loads((Path(__file__).parent / "event.json").read_text())
open_now: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    open_now.add(connection)
    try:
        async for message in connection:
            if message == "broadcast":
                broadcast(
                    open_now, json.dumps([None, None, EVENT["topic"], EVENT["event"], EVENT["payload"]])
                )
            else:
                await connection.send(message)
    finally:
        open_now.discard(connection)


async def main(port: int) -> None:
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # it tells of every client that just goes
    async with serve(handle, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096):
        await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

"""A user's channel over a socket of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.support.server import Server, User


async def follow_transactions(
    server: Server,
    user: User,
    joined: asyncio.Event,
    on_transaction: Callable[[dict[str, Any]], None],
    session: aiohttp.ClientSession,
) -> None:
    """Joins the channel of the user's transactions, sets `joined`, and passes each new_transaction on until cancelled."""
    url = f"{server.url}/socket/websocket?vsn=2.0.0&token={user.token}"
    async with session.ws_connect(url) as socket:
        await socket.send_str(json.dumps(["1", "1", f"transaction:{user.id}", "phx_join", {}]))
        async for message in socket:
            _join, _ref, _topic, event, payload = json.loads(message.data)
            if event == "phx_reply":
                assert payload["status"] == "ok", payload
                joined.set()
            elif event == "new_transaction":
                on_transaction(payload)

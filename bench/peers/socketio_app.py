"""python-socketio, a room for the topic: run by uvicorn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import socketio

EVENT = json.loads((Path(__file__).parent / "event.json").read_text())
server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])
app = socketio.ASGIApp(server)


@server.event
async def connect(sid: str, _environ: Any) -> None:
    await server.enter_room(sid, EVENT["topic"])


@server.event
async def ping(_sid: str, payload: Any) -> Any:
    return payload


@server.event
async def broadcast(_sid: str) -> None:
    await server.emit(EVENT["event"], EVENT["payload"], room=EVENT["topic"])

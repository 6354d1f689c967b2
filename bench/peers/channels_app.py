"""Django Channels, a group for the topic, its layer in memory: run by daphne."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}
    },
    SECRET_KEY="none is needed: nothing is signed",
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402 - Django must be set up before
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

EVENT = json.loads((Path(__file__).parent / "event.json").read_text())
GROUP = "transactions"


class Consumer(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "broadcast":
            await self.channel_layer.group_send(GROUP, {"type": "event", "payload": EVENT["payload"]})
        else:
            await self.send(text_data=text_data)

    async def event(self, message: dict[str, Any]) -> None:
        await self.send(
            text_data=json.dumps([None, None, EVENT["topic"], EVENT["event"], message["payload"]])
        )


application = ProtocolTypeRouter({"websocket": URLRouter([path("", Consumer.as_asgi())])})

"""Subscribers of the campaign: over a WebSocket or LongPoll, with `last_seq` or without. Each writes down what came."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.campaign.clients import Person

JOIN_SECONDS = 10.0
QUIET_SECONDS = 5.0
POLL_SECONDS = 30.0  # more than a server lets a poll wait

Event = tuple[int, str]  # seq, transaction id


class Left(Exception):
    """The channel has ended, or the client was not let in."""


class Subscriber:
    """Comes back whenever it ends.

    With `resumes` it sends the `last_seq` it has seen; without, each join is a session of its own: what happens while it
    lasts comes, each event once and in order.
    """

    def __init__(
        self, person: Person, urls: Callable[[], list[str]], rng: random.Random, resumes: bool = True
    ) -> None:
        self.person, self.urls, self.rng, self.resumes = person, urls, rng, resumes
        self.sessions: list[list[Event]] = [[]]
        self.last_seq = 0
        self.joined = False  # and nothing has ended since

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.person.id}, resumes={self.resumes})"

    @property
    def seen(self) -> list[Event]:
        """All events, of all sessions."""
        return [event for session in self.sessions for event in session]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.listen(self.rng.choice(self.urls()))
            except (Left, OSError, TimeoutError, ValueError, WebSocketException, httpx.HTTPError):
                self.joined = False
                await asyncio.sleep(0.1)

    async def listen(self, url: str) -> None:
        """One connection, to its end."""
        raise NotImplementedError

    def join_message(self) -> str:
        """The join of a new session."""
        if not self.resumes:
            self.sessions.append([])
        payload = {"last_seq": self.last_seq} if self.resumes else {}
        return json.dumps(["1", "1", f"transaction:{self.person.id}", "phx_join", payload])

    def hear(self, text: str) -> None:
        """A message of the server. Raises Left when it says that the channel has ended."""
        join_ref, _, _, event, payload = json.loads(text)
        match event:
            case "new_transaction":
                self.sessions[-1].append((payload["ledger_seq"], payload["id"]))
                self.last_seq = max(self.last_seq, payload["ledger_seq"])
            case "phx_error" | "phx_close":
                raise Left
            case "phx_reply" if payload["status"] != "ok":
                raise Left
            case "phx_reply" if join_ref == "1":
                self.joined = True


class WebSocketSubscriber(Subscriber):
    """Over a WebSocket."""

    async def listen(self, url: str) -> None:
        address = f"{url.replace('http', 'ws', 1)}/socket/websocket?vsn=2.0.0&token={self.person.token}"
        async with connect(address, open_timeout=JOIN_SECONDS, close_timeout=1, proxy=None) as socket:
            await socket.send(self.join_message())
            beat: Any = None
            while True:
                try:
                    async with asyncio.timeout(QUIET_SECONDS):
                        text = await socket.recv()
                except TimeoutError:
                    if beat is not None:
                        raise  # as the npm client: a heartbeat that is not answered ends the connection
                    beat = json.dumps([None, "h", "phoenix", "heartbeat", {}])
                    await socket.send(beat)
                    continue
                beat = None
                assert isinstance(text, str)
                self.hear(text)


class LongPollSubscriber(Subscriber):
    """Over LongPoll; each request may go to another server where `roams` (the servers are nodes of one cluster)."""

    roams = False

    async def listen(self, url: str) -> None:
        async with httpx.AsyncClient(timeout=POLL_SECONDS, trust_env=False) as client:
            opened = await self._request(client, "GET", url, token=self.person.token)
            session = opened["token"]
            joined = await self._request(client, "POST", url, session, self.join_message())
            if joined["status"] != 200:
                raise Left
            while True:
                if self.roams:
                    url = self.rng.choice(self.urls())
                polled = await self._request(client, "GET", url, session)
                for text in polled.get("messages", []):
                    self.hear(text)
                if polled["status"] not in (200, 204):
                    raise Left

    async def _request(
        self,
        client: httpx.AsyncClient,
        method: str,
        url: str,
        session: str = "",
        body: str = "",
        **parameters: str,
    ) -> dict[str, Any]:
        """The answer; `token` is the user's at first, and the session's from then on."""
        parameters = {"vsn": "2.0.0", "token": session or parameters["token"]}
        answer = await client.request(
            method, f"{url}/socket/longpoll", params=parameters, content=body or None
        )
        said = answer.json()
        if answer.status_code != 200 or (not session and "token" not in said):
            raise Left
        return said

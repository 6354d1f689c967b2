"""`bitnexus demo`: what a client does, step by step against a running server.

Signs in, joins the transaction channel as the `phoenix` client does, posts transactions, receives each in the channel, and
verifies the last in the ledger. Prints a line for each step.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any

import aiohttp

from actors.settings import Settings
from api.cli.database import CommandError, base_url, connected, counted, password
from api.cli.probe import probe
from api.security.passwords import hash_password
from schema import users

DEMO_EMAIL = "demo@example.com"
WAIT_SECONDS = 10.0


class PhoenixClient:
    """One socket with one channel, in version 2 of Phoenix's protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, topic: str) -> None:
        self._socket, self._topic, self._ref = socket, topic, 0

    async def push(self, event: str, payload: dict[str, Any]) -> Any:
        """Sends an event and returns the reply's payload. Raises CommandError if its status is not ok."""
        self._ref += 1
        await self._socket.send_str(json.dumps(["1", str(self._ref), self._topic, event, payload]))
        while True:
            _join, ref, _topic, name, answer = await self._receive()
            if name == "phx_reply" and ref == str(self._ref):
                if answer["status"] != "ok":
                    raise CommandError(f"demo: {event} on {self._topic} was answered {answer}")
                return answer["response"]

    async def event(self, event: str) -> Any:
        """The payload of the next event of this name."""
        while True:
            _join, _ref, _topic, name, payload = await self._receive()
            if name == event:
                return payload

    async def _receive(self) -> list[Any]:
        message = await self._socket.receive(timeout=WAIT_SECONDS)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise CommandError("demo: the socket closed")
        return json.loads(message.data)


class Printer:
    """Prints each step with the time since the start."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def step(self, text: str) -> None:
        """Prints one line."""
        print(f"{(time.perf_counter() - self._start) * 1000:8.1f} ms  {text}", flush=True)


async def run(settings: Settings, options: Any) -> int:
    """Runs the demo; returns the exit code. Raises CommandError, one line."""
    base = base_url(settings, options)
    if bool(options.email) != bool(options.password):
        raise CommandError("demo: name both --email and --password, or neither")
    try:
        timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
        async with aiohttp.ClientSession(base, timeout=timeout) as session:
            await probe(session, base)
            if options.email:
                email, secret = options.email, password(options.password, options.email)
            else:
                email, secret = await _demo_user(settings)
            await _main_job(session, email, secret, options.count, Printer())
    except TimeoutError:
        raise CommandError(f"demo: no answer within {WAIT_SECONDS:.0f} s") from None
    except aiohttp.ClientError as error:
        raise CommandError(f"demo: the connection to {base} broke ({error})") from None
    return 0


async def _demo_user(settings: Settings) -> tuple[str, str]:
    """The demo user with a new password."""
    secret = secrets.token_urlsafe(12)
    async with connected(settings) as connection:
        row = await connection.fetchrow(users.BY_EMAIL, DEMO_EMAIL)
        if row is None:
            await connection.fetchrow(users.CREATE, DEMO_EMAIL, "Demo", "user", hash_password(secret))
        else:
            await connection.execute(users.SET_HASH, row["id"], hash_password(secret))
    return DEMO_EMAIL, secret


async def _main_job(
    session: aiohttp.ClientSession, email: str, secret: str, count: int, printer: Printer
) -> None:
    signed_in = await _call(session, "POST", "/api/v1/auth/login", {"email": email, "password": secret})
    token, user_id = signed_in["token"], signed_in["user"]["id"]
    session.headers["Authorization"] = f"Bearer {token}"
    printer.step(f"signed in as {email}, user {user_id}")
    async with session.ws_connect("/socket/websocket", params={"vsn": "2.0.0", "token": token}) as socket:
        topic = f"transaction:{user_id}"
        channel = PhoenixClient(socket, topic)
        await channel.push("phx_join", {})
        printer.step(f"joined {topic}")
        made: dict[str, Any] = {}
        for number in range(1, count + 1):
            body = {"amount": f"{number}.50", "currency": "EUR", "description": f"demo {number}"}
            recorded, event = await asyncio.gather(
                _call(session, "POST", "/api/v1/transactions", body), channel.event("new_transaction")
            )
            made, entry = recorded["transaction"], recorded["ledger"]
            printer.step(
                f"201: transaction {made['id']} of {made['amount']} {made['currency']}, "
                f"ledger seq {entry['seq']}"
            )
            if event["id"] != made["id"]:
                raise CommandError(f"demo: the channel got {event['id']} instead of {made['id']}")
            printer.step(f"the channel got new_transaction {event['id']}, ledger_seq {event['ledger_seq']}")
        await channel.push("phx_leave", {})
        printer.step(f"left {topic}")
    proof = await _call(session, "GET", f"/api/v1/transactions/{made['id']}/verify")
    if not proof["verified"]:
        raise CommandError(f"demo: the ledger does not verify {made['id']}: {proof.get('reason')}")
    printer.step(
        f"verified: leaf {proof['leaf_hash'][:16]}…, inclusion proof of {counted(len(proof['inclusion_proof']), 'node')}"
    )
    head = await _call(session, "GET", "/api/v1/ledger/head")
    printer.step(f"the ledger has {head['tree_size']} entries, root {head['root_hash'][:16]}…")


async def _call(session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    async with session.request(method, path, json=body) as response:
        try:
            answer = await response.json()
        except (ValueError, aiohttp.ContentTypeError):  # the answer of a proxy, or of another program
            answer = {}
        if response.status >= 400 or not answer:
            message = answer.get("error", {}).get("message", "no JSON")
            raise CommandError(f"demo: {method} {path} answered {response.status}: {message}")
        return answer

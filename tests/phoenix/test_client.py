"""The npm `phoenix` client cannot tell the difference.

Every method of it, on both transports and versions, and its way back after restarts, crashes, ended tokens and blocked
WebSockets.

The scenarios are JavaScript (`tests/node/everyday.mjs`, `trouble.mjs`, `bank.mjs`); each is a test here.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
import uvloop

from runtime.core.asyncio_engine import AsyncioEngine
from tests import node
from tests.phoenix.conformance_app import ConformanceServer
from tests.support.ports import free_port
from tests.support.server import SECRET, Server, start

LANES = ("websocket 2.0.0", "websocket 1.0.0", "longpoll 2.0.0", "longpoll 1.0.0")
Answers = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
Results = dict[tuple[str, str], dict[str, Any]]


def names(script: str) -> list[str]:
    """The scenarios of a script."""
    text = (Path(node.HERE) / script).read_text()
    found = re.findall(r'^ *scenario\([`"](.+?)[`"],', text, re.MULTILINE)
    variants = [
        re.findall(r'"(\w+)"', each)
        for each in re.findall(r"^for \(const how of (\[.+\])", text, re.MULTILINE)
    ]
    spread: list[str] = []
    for name in found:
        spread += [name.replace("${how}", how) for how in variants.pop(0)] if "${how}" in name else [name]
    return spread


async def drive(script: str, *arguments: str, answer: Answers | None = None, **env: str) -> Results:
    """Runs a script of scenarios to its end; what came of each."""
    process = await asyncio.create_subprocess_exec(
        node.NODE,
        str(Path(node.HERE) / script),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=node.environment(**env),
    )
    assert process.stdin is not None and process.stdout is not None
    results: Results = {}
    replies: set[asyncio.Task[None]] = set()

    async def reply(question: dict[str, Any]) -> None:
        assert answer is not None and process.stdin is not None
        line = json.dumps({"id": question["id"], **await answer(question)})
        process.stdin.write(line.encode() + b"\n")

    try:
        async with asyncio.timeout(280):
            async for line in process.stdout:
                if not line.startswith(b'{"event"'):
                    continue  # the client's own words
                told = json.loads(line)
                if told["event"] == "ask":
                    task = asyncio.create_task(reply(told))
                    replies.add(task)
                    task.add_done_callback(replies.discard)
                else:
                    results[told["scenario"], told["lane"]] = told
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return results


def on_conformance_app(script: str) -> Results:
    """Plays a script against the conformance app, which it may have restarted."""

    async def main() -> Results:
        engine = AsyncioEngine().start()
        server = ConformanceServer()
        port = await server.start(free_port())

        async def answer(question: dict[str, Any]) -> dict[str, Any]:
            nonlocal server
            match question["what"]:
                case "shutdown":
                    await server.shutdown()
                    await server.stop()
                case "kill":
                    for connection in list(server.connections):
                        getattr(connection, "transport", connection).abort()
                    await server.stop()
                case "start":
                    server = ConformanceServer()
                    await server.start(port)
            return {}

        try:
            return await drive(script, f"http://127.0.0.1:{port}", answer=answer)
        finally:
            await server.stop()
            await engine.stop()

    return uvloop.run(main())


def check(results: Results, scenario: str, lane: str) -> None:
    """Fails with what the script said of a scenario."""
    uncaught = [told["why"] for (name, _), told in results.items() if name == "uncaught"]
    assert not uncaught, uncaught
    assert (scenario, lane) in results, "did not run"
    told = results[scenario, lane]
    assert told["event"] == "passed", told["why"]


@pytest.fixture(scope="module")
def everyday() -> Results:
    """All four ways at once."""
    return on_conformance_app("everyday.mjs")


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("scenario", names("everyday.mjs"))
def test_every_method(everyday: Results, scenario: str, lane: str) -> None:
    check(everyday, scenario, lane)


@pytest.fixture(scope="module")
def trouble() -> Results:
    """A server that goes and comes, and gateways."""
    return on_conformance_app("trouble.mjs")


@pytest.mark.parametrize("scenario", names("trouble.mjs"))
def test_trouble(trouble: Results, scenario: str) -> None:
    check(trouble, scenario, LANES[0])


@pytest.fixture(scope="module")
def bank(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """BitNexus itself on one port, restarted on request, with both transports one after the other."""
    port = str(free_port())

    started: list[Server] = []

    def serve() -> Server:
        folder = str(tmp_path_factory.mktemp("data"))
        started.append(start(module_database, PORT=port, DATA_DIR=folder, JWT_LEEWAY="0"))
        return started[-1]

    server = serve()
    user = server.user()

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        nonlocal server
        if question["what"] == "restart":
            server.stop()
            server = await asyncio.to_thread(serve)
            return {"again": True}
        claims = jwt.decode(user.token, SECRET, ["HS256"], audience="bitnexus", leeway=60)
        claims["exp"] = int(time.time()) + question["seconds"]
        return {"token": jwt.encode(claims, SECRET, "HS256", jwt.get_unverified_header(user.token))}

    async def main() -> Results:
        results: Results = {}
        for lane in (LANES[0], LANES[2]):
            results |= await drive("bank.mjs", server.url, user.id, answer=answer, LANE=lane)
        return results

    try:
        yield asyncio.run(main())
    finally:
        for each in started:  # one may have come up after a failure
            each.stop()


@pytest.mark.parametrize("lane", (LANES[0], LANES[2]))
@pytest.mark.parametrize("scenario", names("bank.mjs"))
def test_the_bank(bank: Results, scenario: str, lane: str) -> None:
    check(bank, scenario, lane)

"""HTTP clients of other languages POST without trouble: Java's and curl's offer h2c beside the body, Go's keeps connections."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import go
from tests.support.server import PATIENCE, Server, User

COUNT = 5
JAVA = Path(__file__).parents[1] / "java" / "Client.java"
BODY = '{"amount":"1.00","currency":"EUR","description":"from curl"}'


def run(*command: str | Path) -> str:
    """What a client prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def recorded(user: User, description: str) -> int:
    """How many of the user's transactions came from there."""
    found = user.client.get("/api/v1/transactions", params={"limit": 100}).json()["transactions"]
    return sum(each["description"] == description for each in found)


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs a JDK")
@pytest.mark.timeout(400)
def test_java(server: Server, user: User) -> None:
    told = run("java", "-XX:TieredStopAtLevel=1", JAVA, server.url, user.token, str(COUNT))
    assert told.split("\n")[:-1] == ["201 HTTP_1_1"] * COUNT
    assert recorded(user, "from Java") == COUNT


def test_go(server: Server, user: User) -> None:
    told = run(go.build(go.CLIENT), server.url, user.token, str(COUNT))
    assert told.split("\n")[:-1] == ["201 HTTP/1.1"] * COUNT
    assert recorded(user, "from Go") == COUNT


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(
    "more", [["--http2"], ["--http1.1"], ["--http2", "-H", "Transfer-Encoding: chunked"], ["-0"]]
)
def test_curl(server: Server, user: User, more: list[str]) -> None:
    before = recorded(user, "from curl")
    one = [
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} ",
        *more,
        "-H",
        f"Authorization: Bearer {user.token}",
    ]
    one += ["-H", "Content-Type: application/json", "-d", BODY, f"{server.url}/api/v1/transactions"]
    if more == ["-0"]:
        one += ["-H", "Expect:"]
    told = run("curl", *one, "--next", *one)
    assert told.split() == ["201", "201"]
    assert recorded(user, "from curl") == before + 2

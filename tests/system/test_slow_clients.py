"""slowhttptest in its four modes, all at once: slow heads, slow bodies, many ranges, slow readers.

Others are served meanwhile, and nothing of it stays.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.support.server import Server, User, wait_until

PROGRAM = shutil.which("slowhttptest")
CONNECTIONS = 150
SECONDS = 12
MODES = {
    "slow heads": ("-H", "-i", "2", "-x", "24", "-t", "GET", "-u", "{url}/health"),
    "slow bodies": (
        "-B",
        "-f",
        "application/json",
        "-i",
        "2",
        "-s",
        "8192",
        "-x",
        "10",
        "-t",
        "POST",
        "-u",
        "{url}/api/v1/auth/login",
    ),
    "many ranges": ("-R", "-a", "5", "-b", "3000", "-t", "GET", "-u", "{url}/openapi.json"),
    "slow readers": (
        "-X",
        "-k",
        "5",
        "-n",
        "2",
        "-w",
        "512",
        "-y",
        "1024",
        "-z",
        "32",
        "-u",
        "{url}/openapi.json",
    ),
}

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs slowhttptest")


def test_slow_clients_keep_nobody_waiting_and_leave_nothing(
    server: Server, user: User, tmp_path: Path
) -> None:
    process = psutil.Process(server.process.pid)
    with server.client() as client:
        client.get("/openapi.json")  # warm
    before, opened = process.memory_info().rss, process.num_fds()
    attacks = [
        subprocess.Popen(
            [
                str(PROGRAM), *("-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-l", str(SECONDS), "-p", "30"),
                *(part.format(url=server.url) for part in mode),
            ],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for mode in MODES.values()
    ]  # fmt: skip
    try:
        wait_until(lambda: process.num_fds() > opened + CONNECTIONS)  # the attacks are under way
        answered, most = 0, 0
        while any(attack.poll() is None for attack in attacks):
            body = {"amount": "1.00", "currency": "EUR"}
            answer = user.client.post("/api/v1/transactions", json=body)
            assert answer.status_code == 201, "\n".join(server.lines[-60:])
            with server.client() as client:  # a new connection each time
                assert client.get("/health").status_code == 200
            answered += 1
            most = max(most, process.num_fds() - opened)
            time.sleep(0.1)
    finally:
        for attack in attacks:
            attack.kill()
            attack.wait()
    assert answered > 10 and most > CONNECTIONS
    wait_until(lambda: process.num_fds() <= opened + 5)
    assert process.memory_info().rss - before < 20_000_000

"""E8: workers that crash again and again: the server ends with one line that says so, or serves around them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import httpx
import pytest

from tests.support.server import ROOT, Server, start, wait_until

CRASHING = '''
from runtime.otp import erlang
from runtime.otp.gen_server import GenServer

class Crashing(GenServer):
    """Crashes `after` milliseconds after each start."""

    def init(self, after: int = 0) -> None:
        erlang.send_after(after, erlang.self_(), "crash")

    def handle_info(self, message):
        raise ValueError("out of cheese")
'''


def tree_with(folder: Path, after: int, backoff: str) -> Path:
    """supervisor.toml with one worker more, last under storage or, without a backoff, last under root."""
    (folder / "crashing.py").write_text(CRASHING)
    text = (ROOT / "supervisor.toml").read_text()
    parent = "storage" if backoff else "root"
    children = tomllib.loads(text)["supervisor"][parent]["children"]
    before = re.search(rf"(?s)\[supervisor\.{parent}\].*?children\s*=\s*(\[.*?\])", text)
    assert before is not None
    listed = str([*children, "crashing"]).replace("'", '"')
    text = text[: before.start(1)] + listed + text[before.end(1) :]
    text += f'\n[worker.crashing]\nstart = "crashing:Crashing"\n{backoff}\n[worker.crashing.args]\nafter = {after}\n'
    path = folder / "supervisor.toml"
    path.write_text(text)
    return path


def run(database: str, folder: Path, after: int, backoff: str = "") -> Server:
    tree = tree_with(folder, after, backoff)
    return start(database, ("--tree", str(tree)), DATA_DIR=str(folder / "data"), PYTHONPATH=str(folder))


@pytest.mark.parametrize("after", [60, 1500])
def test_a_loop_ends_with_a_line_that_names_the_worker(
    module_database: str, tmp_path: Path, after: int
) -> None:
    server = run(module_database, tmp_path, after)
    assert server.process.wait(60) == 1
    wait_until(lambda: any("the tree ended" in line for line in server.lines))
    last = next(line for line in reversed(server.lines) if line)
    assert last.startswith(
        "bitnexus: the tree ended: crashing kept crashing, last with ValueError: out of cheese"
    )
    assert "bitnexus doctor" in last


@pytest.mark.parametrize("after", [0, 60])
def test_a_worker_with_a_backoff_is_served_around(module_database: str, tmp_path: Path, after: int) -> None:
    server = run(module_database, tmp_path, after, "backoff = { min = 10, max = 1000, reset_after = 10000 }")
    try:
        user = server.user()
        wait_until(lambda: sum("out of cheese" in line for line in server.lines) >= 6)
        answer = user.client.post("/api/v1/transactions", json={"amount": "1.00", "currency": "EUR"})
        assert answer.status_code == 201
        assert httpx.get(f"{server.url}/api/v1/health/ready").status_code == 200
    finally:
        assert server.stop() == 0

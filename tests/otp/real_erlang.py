"""Scenarios on real Erlang/OTP: writes them as Erlang terms, runs `oracle.erl` in virtual machines beside one another."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .terms import Json

SOURCES = sorted(Path(__file__).with_name("erlang").glob("*.erl"))


@dataclass(frozen=True, slots=True)
class Recording:
    """What real OTP did in one run of a scenario."""

    trace: list[list[Json]]
    alive: list[str]


def term(value: Json) -> str:
    """A JSON value as Erlang source text: strings are atoms, objects are maps."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        case int():
            return str(value)
        case list():
            return "[" + ",".join(term(item) for item in value) + "]"
        case dict():
            return "#{" + ",".join(f"{term(key)} => {term(item)}" for key, item in value.items()) + "}"
    raise ValueError(f"no such term in a scenario: {value!r}")


def record(
    scenarios: list[tuple[str, list[Json]]],
    machines: int = 16,
    patience: float = 600,
    schedulers: int = 2,
    disturbed: int | None = None,
) -> dict[str, Recording]:
    """Performs `(name, steps)` on real OTP: what it did, by name. One that stops a virtual machine is missing.

    `patience` in seconds is for the slowest of the machines. On one scheduler a process that is woken runs after the one that
    runs, on two at once. With a seed in `disturbed` processes have priorities by chance, yield and sleep for moments.

    Raises FileNotFoundError without Erlang.
    """
    with TemporaryDirectory() as place:
        subprocess.run(["erlc", "-o", place, *map(str, SOURCES)], check=True, timeout=120)
        shares = [scenarios[first::machines] for first in range(machines)]
        with ThreadPoolExecutor(machines) as pool:
            outputs = list(
                pool.map(
                    lambda numbered: _run(
                        Path(place), numbered[0], numbered[1], patience, schedulers, disturbed
                    ),
                    [(number, share) for number, share in enumerate(shares) if share],
                )
            )
    lines = [json.loads(line) for output in outputs for line in output.splitlines() if line[:1] == "{"]
    return {line["name"]: Recording(line["trace"], line["alive"]) for line in lines}


def _run(
    place: Path,
    number: int,
    share: list[tuple[str, list[Json]]],
    patience: float,
    schedulers: int,
    disturbed: int | None,
) -> str:
    file = place / f"scenarios{number}"
    file.write_text("".join(f"{{{term(name)},{term(steps)}}}.\n" for name, steps in share), encoding="utf-8")
    command = ["erl", "+S", str(schedulers), "-noshell", "-pa", str(place), "-s", "oracle", "main", str(file)]
    if disturbed is not None:
        command.append(str(disturbed))
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=patience).stdout
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        return output.decode() if isinstance(output, bytes) else output

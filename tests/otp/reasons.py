"""What random scenarios are made of: exit reasons of every kind, and a time in which all that was set has fired."""

from __future__ import annotations

from random import Random

from .terms import Json

REASONS: list[Json] = [
    "normal", "shutdown", {"t": ["shutdown", "x"]}, "kill", "killed", "noproc", "boom", "noconnection",
    {"t": ["shutdown", "x", "y"]}, {"t": ["normal", "x"]}, {"t": []}, 7, ["shutdown"],
]  # fmt: skip
SETTLE_MS = 900


def worker_init(random: Random) -> Json:
    """What a worker's init returns or raises."""
    return random.choice((
        "ok", "ok", "ignore", "bad", ["stop", random.choice(REASONS)], ["error", "boom"], ["exit", random.choice(REASONS)],
        ["throw", "boom"], ["continue", ["stop", random.choice(REASONS)]], ["timeout", 0],
    ))  # fmt: skip

"""A worker of the campaign's trees: each server is present in one topic, and says who else is."""

from __future__ import annotations

from typing import Any

from runtime.core.engine import current_engine
from runtime.otp.gen_server import GenServer
from runtime.phoenix import presence

TOPIC = "campaign"

TABLES = """
[worker.presence]                  # a lost node is noticed within 13.5 s
start = "runtime.phoenix.presence:Presence"
[worker.presence.args]
pubsub = "pubsub"
max_silent_periods = 2
down_period = 12000

[worker.visitors]
start = "tests.campaign.visitors:Visitors"
"""


def tree_with_presence(tree: str) -> str:
    """A supervisor.toml with these workers in it."""
    last = '"endpoint", "observer"]'
    assert last in tree
    return tree.replace(last, '"endpoint", "observer", "presence", "visitors"]', 1) + TABLES


class Visitors(GenServer):
    """One server among others. Its state is who is there, as this server sees it."""

    def init(self) -> None:
        node = current_engine().node
        presence.whereis().track(self.pid, TOPIC, "alone" if node is None else node.name, {})

    def format_status(self) -> Any:
        return {"there": sorted(presence.whereis().list(TOPIC))}

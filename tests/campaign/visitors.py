"""A worker of the campaign's trees: each server is present in one topic, and says who else is."""

from __future__ import annotations

from typing import Any

from runtime.core.engine import current_engine
from runtime.otp.gen_server import GenServer
from runtime.phoenix import presence

TOPIC = "campaign"

TABLE = """
[worker.visitors]
start = "tests.campaign.visitors:Visitors"
"""


def tree_with_presence(tree: str) -> str:
    """A supervisor.toml with this worker in it."""
    last = '"observer", "presence"]'
    assert last in tree
    return tree.replace(last, '"observer", "presence", "visitors"]', 1) + TABLE


class Visitors(GenServer):
    """One server among others. Its state is who is there, as this server sees it."""

    def init(self) -> None:
        node = current_engine().node
        presence.whereis().track(self.pid, TOPIC, "alone" if node is None else node.name, {})

    def format_status(self) -> Any:
        return {"there": sorted(presence.whereis().list(TOPIC))}

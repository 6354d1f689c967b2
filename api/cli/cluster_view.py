"""`bitnexus nodes`: the cluster as text, a line for each node and one for each direction of each link."""

from __future__ import annotations

import json
from typing import Any

from actors.settings import Settings
from api.cli.operator_client import connect, unavailable_line

COLUMNS = ("NODE", "STATE", "READY", "UP", "SOCKETS", "PROCESSES", "REQUESTS/S", "CPU %", "MEMORY", "VERSION")
LINKS = ("FROM", "TO", "ROUND TRIP", "UP", "FRAMES IN", "FRAMES OUT", "BYTES IN", "BYTES OUT")


async def nodes(settings: Settings, options: Any) -> int:
    """Prints the nodes and the links between them."""
    async with connect(settings, options) as client:
        found = await client.call("GET", "/admin/nodes")
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for line in lines(found):
        print(line)
    return 0


def lines(cluster: dict[str, Any]) -> list[str]:
    """The lines for a body of `GET /admin/nodes`."""
    up = [one for one in cluster["nodes"] if one["state"] == "up"]
    printed = table(COLUMNS, [_row(one["description"]) for one in up])
    printed += [unavailable_line(one) for one in cluster["nodes"] if one["state"] != "up"]
    if len(cluster["nodes"]) < 2:
        return printed
    return [*printed, "", *table(LINKS, _links(cluster["nodes"]))]


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    ready = "yes" if node["ready"] else "no"
    if node["not_ready"]:
        ready += f" ({', '.join(node['not_ready'])})"
    return (
        node["node"], "up", ready, duration(node["uptime"]), str(node["sockets"]), str(node["processes"]),
        f"{node['requests']:g}", f"{node['cpu']:g}", size(node["memory"]), node["version"],
    )  # fmt: skip


def _links(nodes: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    wanted = [one["node"] for one in nodes if one["state"] in ("up", "silent")]
    for node in nodes:
        if node["state"] != "up":
            continue
        links = {link["node"]: link for link in node["description"]["links"]}
        for name in sorted({*wanted, *links} - {node["node"]}):
            link = links.get(name)
            rows.append(
                (node["node"], name, "not connected") if link is None else (node["node"], name, *_link(link))
            )
    return rows


def _link(link: dict[str, Any]) -> tuple[str, ...]:
    trip = link["round_trip_ms"]
    return (
        "no answer" if trip is None else f"{trip:.1f} ms", duration(link["seconds"]), str(link["frames_in"]),
        str(link["frames_out"]), size(link["bytes_in"]), size(link["bytes_out"]),
    )  # fmt: skip


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """The rows below their header, each column as wide as its widest text; a row may have fewer columns."""
    widths = [max(len(row[at]) for row in [head, *rows] if at < len(row)) for at in range(len(head))]
    return [
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=False)).rstrip()
        for row in [head, *rows]
    ]


def duration(seconds: float) -> str:
    """Seconds in the largest fitting unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """Bytes in the largest fitting unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")

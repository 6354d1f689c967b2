"""The supervision tree of a running server, by the admin endpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.server import PATIENCE

Node = dict[str, Any]


def tree(admin: httpx.Client) -> Node:
    """The tree now."""
    answer = admin.get("/admin/tree", params={"limit": 1000})
    assert answer.status_code == 200, answer.text
    return answer.json()


def nodes(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for child in node["children"]:
        yield from nodes(child)


def find(admin: httpx.Client, name: str) -> Node:
    """The node of this name."""
    return next(node for node in nodes(tree(admin)) if node["name"] == name)


def healthy(node: Node) -> bool:
    """True when every process of the tree runs."""
    return all(each["status"] == "running" and each["pid"] for each in nodes(node))


def kill(admin: httpx.Client, process: str) -> None:
    """exit(pid, kill). The answer is lost if the process is the endpoint."""
    try:
        answer = admin.post(f"/admin/processes/{process}/kill")
    except httpx.RemoteProtocolError:
        return
    assert answer.status_code == 200, answer.text


def until_healthy(admin: httpx.Client, seconds: float = PATIENCE) -> float:
    """Waits until all of the tree runs again; how long it took, in seconds."""
    start = time.perf_counter()
    while True:
        try:
            answer = admin.get("/admin/tree", params={"limit": 1000})
            ready = admin.get("/api/v1/health/ready")
            if answer.status_code != 200:
                said = answer.text
            elif healthy(now := answer.json()) and ready.status_code == 200:
                return time.perf_counter() - start
            else:
                said = f"{[each['name'] for each in nodes(now) if each['status'] != 'running']} {ready.text}"
        except httpx.TransportError as error:
            said = repr(error)
        assert time.perf_counter() - start < seconds, f"not healthy after {seconds} s: {said}"
        time.sleep(0.01)

"""`gen_server:multi_call/4` and `gen_server:abcast/3`: one request to the servers of the same name on several nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from runtime.core.engine import current_engine
from runtime.core.exits import Exit
from runtime.core.scheduling import TIMEOUT, PendingReply
from runtime.nodes import net_kernel
from runtime.otp import erlang, gen_server
from runtime.otp.gen import call


async def multi_call(
    name: str, request: Any, *, nodes: Sequence[str] | None = None, timeout: float | None = None
) -> tuple[list[tuple[str, Any]], list[str]]:
    """`gen_server:multi_call/4`: pairs `(node, reply)` received within `timeout` ms, and the nodes that did not reply.

    `nodes` defaults to this node and all connected ones.
    """
    asked = [net_kernel.node(), *net_kernel.nodes()] if nodes is None else list(nodes)
    calls = [(node, call((name, node), request, None)) for node in asked]
    due = None if timeout is None else erlang.monotonic_time() + timeout
    replies: list[tuple[str, Any]] = []
    bad: list[str] = []
    for node, pending in calls:
        try:
            answer = await _within(pending, due)
        except Exit:
            answer = TIMEOUT
        if answer is TIMEOUT:
            bad.append(node)
        else:
            replies.append((node, answer))
    return replies, bad


async def _within(pending: Any, due: float | None) -> Any:
    if due is None or not isinstance(pending, PendingReply) or pending.done:
        return await pending
    left = max(0.0, due - erlang.monotonic_time())
    timer = current_engine().call_later(left / 1000, _give_up, pending)
    try:
        return await pending
    finally:
        timer.cancel()


def _give_up(pending: Any) -> None:
    pending.expire()


def abcast(name: str, request: Any, *, nodes: Sequence[str] | None = None) -> Literal["abcast"]:
    """`gen_server:abcast/3`: a cast to each node; `nodes` defaults to this node and all connected ones."""
    for node in [net_kernel.node(), *net_kernel.nodes()] if nodes is None else nodes:
        gen_server.cast((name, node), request)
    return "abcast"

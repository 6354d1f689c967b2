"""`rpc`: as `erpc`, but what went wrong is a value, `("badrpc", reason)`. Times are milliseconds, None is infinity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime.core.exits import Error, Exit, Throw
from runtime.nodes import erpc


async def call(node: str, function: str, args: Sequence[Any] = (), timeout: float | None = None) -> Any:
    """`rpc:call/5`: the result, a thrown value as well, or `("badrpc", reason)`."""
    try:
        result = await erpc.call(node, function, args, timeout)
    except Throw as thrown:
        result = thrown.value
    except (Error, Exit) as failed:
        return badrpc(failed.reason)
    return _result(result)


def _result(value: Any) -> Any:
    """A value as `rpc` gives it: what looks like the end of a process passes for one."""
    return ("badrpc", value) if isinstance(value, tuple) and len(value) == 2 and value[0] == "EXIT" else value


def badrpc(reason: Any) -> tuple[Any, ...]:
    """What `erpc` raised, in `rpc`'s words."""
    match reason:
        case ("erpc", "noconnection"):
            return ("badrpc", "nodedown")
        case ("erpc", why):
            return ("badrpc", why)
        case ("exception", why, stack):
            return ("badrpc", ("EXIT", (why, stack)))
        case (_, why):
            return ("badrpc", ("EXIT", why))
    raise AssertionError(reason)


def cast(node: str, function: str, args: Sequence[Any] = ()) -> bool:
    """`rpc:cast/4`: True, whatever comes of it."""
    erpc.cast(node, function, args)
    return True


async def multicall(
    nodes: Sequence[str], function: str, args: Sequence[Any] = (), timeout: float | None = None
) -> tuple[list[Any], list[str]]:
    """`rpc:multicall/5`: the results, and the nodes that could not be reached or did not answer in time."""
    results: list[Any] = []
    bad: list[str] = []
    for node, answer in zip(nodes, await erpc.multicall(nodes, function, args, timeout), strict=True):
        match answer:
            case ("ok" | "throw", value):
                results.append(_result(value))
            case ("error", ("erpc", "noconnection" | "timeout")):
                bad.append(node)
            case (_, reason):
                results.append(badrpc(reason))
    return results, bad

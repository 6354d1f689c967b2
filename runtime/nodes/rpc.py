"""`rpc`: as `erpc`, but what went wrong is a value, `("badrpc", reason)`. Times are milliseconds, None is infinity."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Literal

from runtime.core.exits import Error, Exit, Throw
from runtime.nodes import erpc


async def call(node: str, function: str, args: Sequence[Any] = (), timeout: float | None = None) -> Any:
    """`rpc:call/5`: the result, a thrown value as well, or `("badrpc", reason)`."""
    return await _value(erpc.call(node, function, args, timeout))


block_call = call  # `rpc:block_call/4,5`: there is no server at the other end that others could be kept from


def async_call(node: str, function: str, args: Sequence[Any] = ()) -> erpc.RequestId:
    """`rpc:async_call/4`: a promise for the caller, which `yield_` and `nb_yield` keep."""
    return erpc.send_request(node, function, args)


async def yield_(promise: erpc.RequestId) -> Any:
    """`rpc:yield/1`: waits for the answer of an `async_call`."""
    return await _value(erpc.receive_response(promise))


async def nb_yield(
    promise: erpc.RequestId, timeout: float | None = 0
) -> tuple[Literal["value"], Any] | Literal["timeout"]:
    """`rpc:nb_yield/1,2`: `("value", answer)`, or "timeout" if it is not there after `timeout` ms."""
    answer = await _value(erpc.wait_response(promise, timeout))
    match answer:
        case "no_response":
            return "timeout"
        case ("response", value):
            return ("value", _result(value))
    return ("value", answer)


async def _value(answer: Awaitable[Any]) -> Any:
    try:
        return _result(await answer)
    except Throw as thrown:
        return _result(thrown.value)
    except (Error, Exit) as failed:
        return badrpc(failed.reason)


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

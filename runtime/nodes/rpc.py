"""`rpc`: as `erpc`, but failures are returned as `("badrpc", reason)`. Times are milliseconds, None is infinity."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Literal

from runtime.core.exits import Error, Exit, Throw
from runtime.nodes import erpc


async def call(node: str, function: str, args: Sequence[Any] = (), timeout: float | None = None) -> Any:
    """`rpc:call/5`: the result or thrown value, or `("badrpc", reason)`."""
    return await _value(erpc.call(node, function, args, timeout))


block_call = call  # `rpc:block_call/4,5`: no server handles the calls, so there is none to block


def async_call(node: str, function: str, args: Sequence[Any] = ()) -> erpc.RequestId:
    """`rpc:async_call/4`: returns a key for `yield_` or `nb_yield`."""
    return erpc.send_request(node, function, args)


async def yield_(promise: erpc.RequestId) -> Any:
    """`rpc:yield/1`: waits for the result of an `async_call`."""
    return await _value(erpc.receive_response(promise))


async def nb_yield(
    promise: erpc.RequestId, timeout: float | None = 0
) -> tuple[Literal["value"], Any] | Literal["timeout"]:
    """`rpc:nb_yield/1,2`: `("value", result)`, or "timeout" if there is no result after `timeout` ms."""
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
    """A result as `rpc` returns it: a pair `("EXIT", reason)` becomes a `badrpc`, as in OTP."""
    return ("badrpc", value) if isinstance(value, tuple) and len(value) == 2 and value[0] == "EXIT" else value


def badrpc(reason: Any) -> tuple[Any, ...]:
    """Translates the reason of an exception of `erpc` to a `badrpc` tuple."""
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
    """`rpc:cast/4`: always True."""
    erpc.cast(node, function, args)
    return True


async def multicall(
    nodes: Sequence[str], function: str, args: Sequence[Any] = (), timeout: float | None = None
) -> tuple[list[Any], list[str]]:
    """`rpc:multicall/5`: the results, and the nodes that could not be reached or did not reply in time."""
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

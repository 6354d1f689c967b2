"""`erpc`: calls functions that other nodes export, and tells exactly how they ended.

Each call runs in its own process on the other node, which exits with the reason `(ref, "return", result)` or the like. A call
to the own node without a timeout runs in the caller, as in OTP. Times are milliseconds, None is infinity. A failed call raises:

    Error(("exception", reason, stack))   it raised an error        Error(("erpc", "noconnection"))  its node is lost
    Exit(("exception", reason))           it exited                 Error(("erpc", "timeout"))       it took too long
    Throw(value)                          it threw                  Exit(("signal", reason))         it was killed
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Final

from runtime.core.actor import FunctionProcess
from runtime.core.engine import current_engine
from runtime.core.exits import Error, Exit, Stack, Throw, Unwind
from runtime.core.pid import Pid, Ref
from runtime.nodes.spawning import spawn_request
from runtime.otp import erlang
from runtime.otp.erlang import TIMEOUT, Down

EXECUTE: Final = "erpc:execute_call"


class Execution(FunctionProcess):
    """The process of a call. Its exit with the result as the reason is not reported as a crash."""

    __slots__ = ()
    reports_crashes = False


async def _apply(function: str, args: Sequence[Any]) -> Any:
    node = current_engine().node
    if node is None or function not in node.exports:
        raise Error("undef")
    result = node.exports[function][0](*args)
    return await result if isawaitable(result) else result


async def execute_call(ref: Ref, function: str, args: Sequence[Any]) -> None:
    """The process of one call: exits with the outcome for the caller."""
    try:
        outcome: tuple[Any, ...] = ("return", await _apply(function, args))
    except Throw as thrown:
        outcome = ("throw", thrown.value)
    except Exit as ended:
        outcome = ("exit", ended.reason)
    except Error as failed:
        outcome = ("error", failed.reason, Stack(failed.__traceback__))
    except Exception as failed:
        outcome = ("error", failed, Stack(failed.__traceback__))
    raise Exit((ref, *outcome))


async def execute_cast(function: str, args: Sequence[Any]) -> None:
    """The process of one cast, whose outcome is dropped."""
    await _apply(function, args)


@dataclass(eq=False, slots=True)
class RequestId:
    """A request of `owner`: `ref` is known to the call's process, `spawned` is its monitor; `done`, no answer comes any more."""

    owner: Pid
    ref: Ref
    spawned: Ref
    done: bool = False


def send_request(node: str, function: str, args: Sequence[Any] = ()) -> RequestId:
    """`erpc:send_request/4`: await the result with `receive_response` or `wait_response`."""
    ref = erlang.make_ref()
    return RequestId(
        erlang.self_(),
        ref,
        spawn_request(node, EXECUTE, ref, function, tuple(args), monitor=True, reply="error_only"),
    )


async def call(node: str, function: str, args: Sequence[Any] = (), timeout: float | None = None) -> Any:
    """`erpc:call/5`: the result of the function. Raises as described above."""
    if timeout is None and node == current_engine().node_name:
        return await _call_here(function, args)
    return await receive_response(send_request(node, function, args), timeout)


async def _call_here(function: str, args: Sequence[Any]) -> Any:
    try:
        return await _apply(function, args)
    except Exit as ended:
        raise Exit(("exception", ended.reason)) from None
    except Error as failed:
        raise Error(("exception", failed.reason, Stack(failed.__traceback__))) from None
    except (Throw, Unwind):
        raise
    except Exception as failed:
        raise Error(("exception", failed, Stack(failed.__traceback__))) from None


def _answers(request: RequestId) -> Callable[[Any], bool]:
    ref = request.spawned

    def answer(message: Any) -> bool:
        match message:
            case Down(ref=down):
                return down is ref
            case ("spawn_reply", reply, "error", _):
                return reply is ref
        return False

    return answer


async def _await(request: RequestId, timeout: float | None) -> Any:
    return await erlang.receive(_answers(request), timeout)


def _result(request: RequestId, answer: Any) -> Any:
    request.done = True
    match answer:
        case ("spawn_reply", _, "error", reason):
            raise Error(("erpc", "noconnection" if reason == "noconnection" else reason))
        case Down(reason=(ref, "return", value)) if ref is request.ref:
            return value
        case Down(reason=(ref, "throw", value)) if ref is request.ref:
            raise Throw(value)
        case Down(reason=(ref, "exit", reason)) if ref is request.ref:
            raise Exit(("exception", reason))
        case Down(reason=(ref, "error", reason, stack)) if ref is request.ref:
            raise Error(("exception", reason, stack))
        case Down(reason="noconnection"):
            raise Error(("erpc", "noconnection"))
        case Down(reason=reason):
            raise Exit(("signal", reason))
    raise AssertionError(answer)


async def receive_response(request: RequestId, timeout: float | None = None) -> Any:
    """`erpc:receive_response/2`: after a timeout the request is void.

    For one that was answered, is void or another process's it waits all the same, and then raises Error(("erpc", "badarg")); so
    it does if the caller has received the answer as a message.
    """
    answer = await _await(request, timeout)
    if answer is TIMEOUT:
        if request.done or request.owner is not erlang.self_():
            raise Error(("erpc", "badarg"))
        request.done = True
        raise Error(("erpc", "timeout" if erlang.demonitor(request.spawned, info=True) else "badarg"))
    return _result(request, answer)


async def wait_response(request: RequestId, timeout: float | None = 0) -> Any:
    """`erpc:wait_response/2`: `("response", value)`, or `"no_response"` and one may go on waiting."""
    answer = await _await(request, timeout)
    return "no_response" if answer is TIMEOUT else ("response", _result(request, answer))


def check_response(message: Any, request: RequestId) -> Any:
    """`erpc:check_response/2`: `("response", value)` if the message is the request's answer, else "no_response".

    Raises as `receive_response`.
    """
    return ("response", _result(request, message)) if _answers(request)(message) else "no_response"


def multicast(nodes: Sequence[str], function: str, args: Sequence[Any] = ()) -> str:
    """`erpc:multicast/4`: `"ok"`; a `cast` to each."""
    for node in nodes:
        cast(node, function, args)
    return "ok"


def cast(node: str, function: str, args: Sequence[Any] = ()) -> str:
    """`erpc:cast/4`: always `"ok"`."""
    erlang.spawn(_cast, node, function, tuple(args))
    return "ok"


def _cast(node: str, function: str, args: tuple[Any, ...]) -> None:
    spawn_request(node, "erpc:execute_cast", function, args, reply="no")


async def multicall(
    nodes: Sequence[str], function: str, args: Sequence[Any] = (), timeout: float | None = None
) -> list[tuple[Any, ...]]:
    """`erpc:multicall/5`: for each node in turn `("ok", value)`, or `(class, reason)` as `call` would raise it.

    With no timeout the function runs in the caller where the own node is named first, once the others have been asked.
    """
    own = current_engine().node_name if timeout is None else None
    requests: list[RequestId | None] = []
    for node in nodes:
        here = node == own and None not in requests
        requests.append(None if here else send_request(node, function, args))
    due = None if timeout is None else erlang.monotonic_time() + timeout
    ours = await _outcome(_call_here(function, args)) if None in requests else ()
    results: list[tuple[Any, ...]] = []
    for request in requests:
        left = None if due is None else max(0, due - erlang.monotonic_time())
        results.append(ours if request is None else await _outcome(receive_response(request, left)))
    return results


async def _outcome(response: Awaitable[Any]) -> tuple[Any, ...]:
    try:
        return ("ok", await response)
    except Exit as ended:
        return ("exit", ended.reason)
    except Error as failed:
        return ("error", failed.reason)
    except Throw as thrown:
        return ("throw", thrown.value)


EXPORTS: Final = {EXECUTE: execute_call, "erpc:execute_cast": execute_cast}  # of every node

"""Asynchronous requests: `gen_server:send_request/2`, `receive_response/1,2` and `wait_response/1,2`.

For collections of them see `runtime.otp.request_ids`. Times are milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, overload

from runtime.core.durations import check_timeout
from runtime.core.engine import current_engine
from runtime.core.scheduling import TIMEOUT, PendingReply, Receive, scheduler
from runtime.otp.destination import Dest, resolve
from runtime.otp.gen import Call, CallRequest, call
from runtime.otp.unread_answer import UnreadAnswer, failure

R = TypeVar("R", covariant=True)

RequestId = Awaitable[Any]


@overload
def send_request(dest: Dest, request: CallRequest[R]) -> Awaitable[R]: ...
@overload
def send_request(dest: Dest, request: Any) -> Awaitable[Any]: ...
def send_request(dest: Dest, request: Any) -> Awaitable[Any]:
    """`gen_server:send_request/2`: sends a request; `receive_response` waits for the response.

    Unlike a call it can be sent to oneself; the process replies when it handles the request.
    """
    me = scheduler.current
    if me is not None and resolve(dest) is me:
        pending: Any = Call(me, request, (dest, request, None), True, me)
        me.deliver(pending)
    else:
        pending = call(dest, request, None)
    if me is not None and isinstance(pending, PendingReply):
        pending.waiter = UnreadAnswer(me, pending)  # type: ignore[assignment]
    return pending


async def receive_response(request_id: RequestId, timeout: float | None = None) -> Any:
    """`gen_server:receive_response/2`: `("reply", value)` or `("error", (reason, server))`; TIMEOUT after `timeout` ms.

    A timeout abandons the request. For one that is abandoned, or whose response was received, it waits in vain, as in OTP.
    """
    answer = await wait_response(request_id, timeout)
    if answer is TIMEOUT:
        abandon(request_id)
    return answer


async def wait_response(request_id: RequestId, timeout: float | None = None) -> Any:
    """`gen_server:wait_response/2`: as `receive_response`, but after a TIMEOUT the request stays pending."""
    answered = await first_answered([request_id], timeout)
    return TIMEOUT if answered is None else response(answered)


def response(request_id: PendingReply) -> Any:
    """The response to a request: `("reply", value)`, `("error", (reason, server))`, or TIMEOUT if it was abandoned."""
    if request_id.error is None:
        return TIMEOUT if request_id.value is TIMEOUT else ("reply", request_id.value)
    reason, server = failure(request_id)
    return ("error", reason if server is None else (reason, server))


def abandon(request_id: RequestId) -> None:
    """Gives a request up: a late reply is dropped. Another process's request goes on."""
    assert isinstance(request_id, PendingReply)
    if not _is_ours(request_id):
        return
    waiter = request_id.waiter
    if isinstance(request_id, Call) and not request_id.done:
        request_id.settle()
        request_id.alias = True
    request_id.waiter = None
    request_id.resolve(TIMEOUT)
    if isinstance(waiter, UnreadAnswer):
        waiter.spend()
        request_id.waiter = waiter  # type: ignore[assignment]


async def first_answered(requests: Sequence[RequestId], timeout: float | None) -> PendingReply | None:
    """Waits for a response; returns the first of the requests, in their order, that has one, or None after `timeout` ms."""
    check_timeout(timeout)
    pending = [request for request in requests if isinstance(request, PendingReply) and _is_ours(request)]
    found = next(filter(_take, pending), None)
    if found is not None:
        return found
    if timeout == 0 and scheduler.current is not None:
        await Receive(_nothing, 0)  # as `after 0`: others run only when this process has had its turn
        return None
    engine = current_engine()
    answered: asyncio.Future[None] = engine.loop.create_future()
    waiters = [(request, request.waiter) for request in pending if not request.done]
    for request, _ in waiters:
        request.waiter = answered
    timer = None if timeout is None else engine.call_later(timeout / 1000, _time_out, answered)
    try:
        await answered
    finally:
        if timer is not None:
            timer.cancel()
        found = next((request for request, _ in waiters if request.done), None)
        for request, waiter in waiters:
            request.waiter = waiter
            if request.done and isinstance(waiter, UnreadAnswer):
                waiter.spend() if request is found else waiter.arrive()
    return found


def _nothing(_: Any) -> bool:
    return False


def _is_ours(request: PendingReply) -> bool:
    """False for a request of another process: its response never comes to this one."""
    waiter = request.waiter
    return not isinstance(waiter, UnreadAnswer) or waiter.caller is scheduler.current


def _take(request: PendingReply) -> bool:
    """True if the request has a response, which is then removed from the mailbox."""
    if not request.done:
        return False
    waiter = request.waiter
    return not isinstance(waiter, UnreadAnswer) or not waiter.done() or waiter.fetch()


def _time_out(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)

"""Collections of pending requests: `gen_server:reqids_new/0` and the functions that take a collection (OTP 25).

    ids = reqids_new()
    for server in servers:
        ids = send_request_to(server, "status", label=server, collection=ids)
    while (answer := await receive_response_of(ids, 1000)) not in ("no_request", "timeout"):
        (status, value), server, ids = answer

A collection is immutable: functions return the new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.core.scheduling import PendingReply
from runtime.otp.destination import Dest
from runtime.otp.send_request import RequestId, abandon, first_answered, response, send_request


@dataclass(frozen=True, slots=True)
class RequestIds:
    """A collection: requests with their labels, oldest first."""

    pairs: tuple[tuple[RequestId, Any], ...] = ()

    def without(self, request_id: RequestId) -> RequestIds:
        """The collection without a request."""
        return RequestIds(tuple(pair for pair in self.pairs if pair[0] is not request_id))


def reqids_new() -> RequestIds:
    """`gen_server:reqids_new/0`."""
    return RequestIds()


def reqids_add(request_id: RequestId, label: Any, collection: RequestIds) -> RequestIds:
    """`gen_server:reqids_add/3`. Raises ValueError if the request is already in the collection."""
    if any(known is request_id for known, _ in collection.pairs):
        raise ValueError("request_id: already in the collection")
    return RequestIds((*collection.pairs, (request_id, label)))


def reqids_size(collection: RequestIds) -> int:
    """`gen_server:reqids_size/1`."""
    return len(collection.pairs)


def reqids_to_list(collection: RequestIds) -> list[tuple[RequestId, Any]]:
    """`gen_server:reqids_to_list/1`: `(request id, label)` pairs."""
    return list(collection.pairs)


def send_request_to(dest: Dest, request: Any, label: Any, collection: RequestIds) -> RequestIds:
    """`gen_server:send_request/4`: sends the request and returns the collection with it."""
    return reqids_add(send_request(dest, request), label, collection)


def check_response(request_id: RequestId) -> Any:
    """`gen_server:check_response/2`: ("reply", value), ("error", (reason, dest)), or "no_reply".

    Unlike in OTP the message that `handle_info` got is not passed.
    """
    assert isinstance(request_id, PendingReply)
    return response(request_id) if request_id.done else "no_reply"


async def wait_response(request_id: RequestId, timeout: float | None = None) -> Any:
    """`gen_server:wait_response/2`: as check_response, or "timeout" after `timeout` ms; the request stays pending."""
    answered = await first_answered([request_id], timeout)
    return "timeout" if answered is None else response(answered)


async def wait_response_of(collection: RequestIds, timeout: float | None = None, delete: bool = True) -> Any:
    """`gen_server:wait_response/3`: the next response as `(response, label, new collection)`.

    "no_request" if the collection is empty, "timeout" after `timeout` ms. With `delete` the request is removed from the new
    collection.
    """
    if not collection.pairs:
        return "no_request"
    found = await first_answered([request_id for request_id, _ in collection.pairs], timeout)
    if found is None:
        return "timeout"
    label = next(label for request_id, label in collection.pairs if request_id is found)
    return (response(found), label, collection.without(found) if delete else collection)


async def receive_response_of(
    collection: RequestIds, timeout: float | None = None, delete: bool = True
) -> Any:
    """`gen_server:receive_response/3`: as wait_response_of, but a timeout abandons all requests of the collection."""
    answer = await wait_response_of(collection, timeout, delete)
    if answer == "timeout":
        for request_id, _ in collection.pairs:
            abandon(request_id)
    return answer

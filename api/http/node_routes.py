"""Operators' requests about another node: `?node=NAME` has the request done there, and its answer passed on.

An operation of `NodeRoutes` is done by this process when its query names this node or none. Else it is sent, by `erpc`, to the
one function that nodes export for it (`operate`, see the table `cluster` of supervisor.toml), which does what the table of such
operations holds and nothing else. Who asks was authenticated and found to be an admin by the node that was asked; what the
operation checks and audits it checks and audits where it is done. A node that does not answer costs a bounded time: 504.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from actors.cluster.member import own_name
from api.http.decoder import Decoder
from api.http.errors import ApiError, from_exception, unavailable
from api.http.principal import Principal
from api.http.request import JSON_HEADER, ApiRequest, Response, query_pairs
from api.http.router import Handler, Routes
from runtime import Error, Exit, erlang
from runtime.http import messages as http
from runtime.nodes import codec, erpc, net_kernel

EXPORTED: Final = "operators:operate"  # the name of `operate` in supervisor.toml
LOOK_MS: Final = 3000  # how long a node may take to answer
ACT_MS: Final = 8000

NodeName = Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern="^[^\\u0000]*$")]


class OnNode(msgspec.Struct, frozen=True):
    """Which node the operation is about: its name, as `GET /admin/nodes` gives it. Left out, the one that answers."""

    node: NodeName | None = None


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """A request on its way to another node. `query` and `body` are as they came; `address` is the client's."""

    operation: str
    params: dict[str, Any]
    query: str
    body: bytes
    principal: Principal | None
    address: str
    request_id: str


for _class in (Principal, NodeRequest):
    codec.register(_class)


@dataclass(frozen=True, slots=True)
class _Operation:
    """What another node may ask for."""

    handler: Callable[[Any], Awaitable[Response]]
    query: Decoder
    body: Decoder | None
    writes: bool


_operations: dict[str, _Operation] = {}
_encode = msgspec.json.Encoder(decimal_format="number").encode


def names() -> list[str]:
    """This node and those connected to it."""
    return sorted({own_name(), *net_kernel.nodes()})


def operation(name: str) -> Callable[[Handler], Handler]:
    """Makes the decorated handler one that other nodes may ask for by `look`."""

    def decorate(handler: Any) -> Any:
        _operations[name] = _Operation(handler, Decoder(OnNode), None, False)
        return handler

    return decorate


class NodeRoutes(Routes):
    """Operations that are done on the node which their query names. `query` is an `OnNode`.

    `patience` says for how many milliseconds another node may take to answer a request.
    """

    def add(
        self,
        method: str,
        path: str,
        *,
        query: type[msgspec.Struct] | None = None,
        body: type[msgspec.Struct] | None = None,
        patience: Callable[[Any], float] | None = None,
        errors: tuple[int, ...] = (),
        **rest: Any,  # summary, roles, responses, ...
    ) -> Callable[[Handler], Handler]:
        """As in `Routes`."""
        query = query or OnNode
        assert issubclass(query, OnNode)
        name, writes, add = f"{method} {path}", method != "GET", super().add

        def decorate(handler: Any) -> Any:
            _operations[name] = _Operation(handler, Decoder(query), Decoder(body) if body else None, writes)

            async def here_or_there(request: ApiRequest[Any]) -> Response:
                node = request.query.node
                if node is None or node == own_name():
                    return await handler(request)
                most = patience(request) if patience else ACT_MS if writes else LOOK_MS
                return await on_node(node, name, request, most)

            here_or_there.__doc__ = handler.__doc__
            wrong = tuple({*errors, 404, 504})
            add(method, path, query=query, body=body, errors=wrong, **rest)(here_or_there)
            return handler

        return decorate


async def on_node(node: str, operation: str, request: ApiRequest[Any], milliseconds: float) -> Response:
    """The answer of another node to this request. Raises ApiError 404 if it is not connected, 504 if it is silent."""
    body = request.body or b""
    if not isinstance(body, bytes):
        body = _encode(body)
    asked = NodeRequest(
        operation,
        request.params,
        request.http.query,
        body,
        _plain(request.principal) if request.has_principal else None,
        request.address,
        request.request_id,
    )
    status, answer = await ask(node, asked, milliseconds)
    return Response(status, answer, [JSON_HEADER])


def _plain(principal: Principal) -> Principal:
    """The same, as it travels: the database driver's ids are of a class of its own."""
    ids = {name: getattr(principal, name) for name in ("user_id", "session_id")}
    plain = {name: None if value is None else UUID(int=value.int) for name, value in ids.items()}
    return msgspec.structs.replace(principal, **plain)


async def look(node: str, operation: str, milliseconds: float = LOOK_MS) -> bytes:
    """What a node answers to an operation that takes nothing; also this node. Raises ApiError as `on_node`, 502 for a failure."""
    asked = NodeRequest(operation, {}, "", b"", None, "", "")
    status, answer = await (operate(asked) if node == own_name() else ask(node, asked, milliseconds))
    if status >= 400:
        raise ApiError(502, f"Node {node} answered {status}", code="node_failed")
    return answer


async def ask(node: str, asked: NodeRequest, milliseconds: float) -> tuple[int, bytes]:
    """Status and body of another node's answer. Raises ApiError as `on_node`."""
    if node not in net_kernel.nodes():
        raise ApiError(404, f"There is no node {node}; there are: {', '.join(names())}", code="unknown_node")
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Any] = loop.create_future()

    async def call() -> None:
        try:
            outcome = await erpc.call(node, EXPORTED, (asked,), milliseconds)
        except (Error, Exit) as failed:
            outcome = _why(node, failed.reason, milliseconds, _operations[asked.operation].writes)
        except Exception as failed:  # it can't travel
            outcome = from_exception(failed)
        if not answered.done():  # its client may have gone
            answered.set_result(outcome)

    erlang.spawn(call)  # only a process may wait for another node
    outcome = await answered
    if isinstance(outcome, ApiError):
        raise outcome
    return outcome


def _why(node: str, reason: Any, milliseconds: float, writes: bool) -> ApiError:
    unknown = "; it is not known whether it was done" if writes else ""
    match reason:
        case ("erpc", "timeout"):
            text = f"Node {node} did not answer within {milliseconds / 1000:g} s{unknown}"
            return ApiError(504, text, code="node_silent")
        case ("erpc", "noconnection"):
            return unavailable(f"The connection to node {node} broke{unknown}", code="node_lost")
        case ("exception", "undef", _):
            return ApiError(501, f"Node {node} is of a version that can't be asked", code="node_differs")
    return ApiError(502, f"Node {node} could not do it", code="node_failed")


async def operate(asked: NodeRequest) -> tuple[int, bytes]:
    """What this node exports to the others: does an operation of theirs, and returns status and body of its answer."""
    found = _operations.get(asked.operation)
    if found is None:
        return 501, ApiError(501, f"Node {own_name()} is of another version", code="node_differs").body()
    head = http.Request(asked.operation.partition(" ")[0], "/", asked.query, [])
    head.client = asked.address, 0
    request: ApiRequest[None] = ApiRequest(None, head, asked.request_id)
    request.params = asked.params
    if asked.principal is not None:
        request.principal = asked.principal
    try:
        request.query = found.query.strings(query_pairs(asked.query.encode("latin-1")))
        request.body = asked.body if found.body is None else found.body.json(asked.body)
        answer = await found.handler(request)
    except Exception as error:
        failed = from_exception(error, found.writes)
        return failed.status, failed.body()
    return answer.status, answer.body


@operation("ping")
async def _ping(_request: ApiRequest[Any]) -> Response:
    return Response(204)

"""Operators' requests about another node: `?node=NAME` is executed on that node, and its answer passed on.

An operation of `NodeRoutes` runs in this process if the query names this node or none. Otherwise it is sent by `erpc` to the one
function that nodes export for this (`operate`, see worker `cluster` in supervisor.toml), which runs registered operations and
nothing else. The node that received the HTTP request authenticates and authorizes the caller; the operation's own checks and its
audit log entry are made where it runs. A node that does not answer in time is a 504.
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
READ_TIMEOUT_MS: Final = 3000  # how long another node may take to answer
WRITE_TIMEOUT_MS: Final = 8000

NodeName = Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern="^[^\\u0000]*$")]


class OnNode(msgspec.Struct, frozen=True):
    """The node that the operation is about, by its name in `GET /admin/nodes`; by default the one that answers."""

    node: NodeName | None = None


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """A request to another node. `query` and `body` are unparsed; `address` is the client's."""

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
    """An operation that other nodes may call."""

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
    """Registers the decorated handler, which takes no query or body, for `get` from other nodes."""

    def decorate(handler: Any) -> Any:
        _operations[name] = _Operation(handler, Decoder(OnNode), None, False)
        return handler

    return decorate


class NodeRoutes(Routes):
    """Routes whose operations run on the node that the query names. `query` must be a subclass of `OnNode`.

    `timeout_ms(request)` is how long another node may take to answer, by default READ_TIMEOUT_MS or WRITE_TIMEOUT_MS.
    """

    def add(
        self,
        method: str,
        path: str,
        *,
        query: type[msgspec.Struct] | None = None,
        body: type[msgspec.Struct] | None = None,
        timeout_ms: Callable[[Any], float] | None = None,
        errors: tuple[int, ...] = (),
        **rest: Any,  # summary, roles, responses, ...
    ) -> Callable[[Handler], Handler]:
        """As in `Routes`."""
        query = query or OnNode
        assert issubclass(query, OnNode)
        name, writes, add = f"{method} {path}", method != "GET", super().add

        def decorate(handler: Any) -> Any:
            _operations[name] = _Operation(handler, Decoder(query), Decoder(body) if body else None, writes)

            async def local_or_forwarded(request: ApiRequest[Any]) -> Response:
                node = request.query.node
                if node is None or node == own_name():
                    return await handler(request)
                limit = timeout_ms(request) if timeout_ms else WRITE_TIMEOUT_MS if writes else READ_TIMEOUT_MS
                return await forward(node, name, request, limit)

            local_or_forwarded.__doc__ = handler.__doc__
            of_nodes = (404, 501, 502, 504)
            add(method, path, query=query, body=body, errors=tuple({*errors, *of_nodes}), **rest)(
                local_or_forwarded
            )
            return handler

        return decorate


async def forward(node: str, operation: str, request: ApiRequest[Any], milliseconds: float) -> Response:
    """Another node's answer to this request.

    Raises ApiError 404 if the node is not connected, 504 if it does not answer in `milliseconds`, 503 if the connection breaks,
    501 if it is of a version without this operation, 502 for any other failure.
    """
    body = request.body or b""
    if not isinstance(body, bytes):
        body = _encode(body)
    node_request = NodeRequest(
        operation,
        request.params,
        request.http.query,
        body,
        _plain(request.principal) if request.has_principal else None,
        request.address,
        request.request_id,
    )
    status, answer = await send(node, node_request, milliseconds)
    return Response(status, answer, [JSON_HEADER])


def _plain(principal: Principal) -> Principal:
    """The principal with standard UUIDs: the codec does not know asyncpg's subclass."""
    ids = {name: getattr(principal, name) for name in ("user_id", "session_id")}
    plain = {name: None if value is None else UUID(int=value.int) for name, value in ids.items()}
    return msgspec.structs.replace(principal, **plain)


async def get(node: str, operation: str, milliseconds: float = READ_TIMEOUT_MS) -> bytes:
    """The body of a node's answer to an operation without query and body; also of this node. Raises ApiError as `forward`."""
    node_request = NodeRequest(operation, {}, "", b"", None, "", "")
    status, answer = await (
        operate(node_request) if node == own_name() else send(node, node_request, milliseconds)
    )
    if status >= 400:
        raise ApiError(502, f"Node {node} answered {status}", code="node_failed")
    return answer


async def send(node: str, node_request: NodeRequest, milliseconds: float) -> tuple[int, bytes]:
    """The status and body of another node's answer. Raises ApiError as `forward`."""
    if node not in net_kernel.nodes():
        raise ApiError(404, f"There is no node {node}; there are: {', '.join(names())}", code="unknown_node")
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Any] = loop.create_future()

    async def call() -> None:
        try:
            outcome = await erpc.call(node, EXPORTED, (node_request,), milliseconds)
        except (Error, Exit) as failed:
            outcome = _why(node, failed.reason, milliseconds, _operations[node_request.operation].writes)
        except Exception as failed:  # the request can't be encoded
            outcome = from_exception(failed)
        if not answered.done():  # the client may have gone and the request been cancelled
            answered.set_result(outcome)

    erlang.spawn(call)  # erpc.call needs a process
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
            return ApiError(501, f"Node {node} is of a version without this operation", code="node_differs")
    return ApiError(502, f"Node {node} failed to do this", code="node_failed")


async def operate(node_request: NodeRequest) -> tuple[int, bytes]:
    """The function that this node exports to others: runs a registered operation and returns its status and body."""
    found = _operations.get(node_request.operation)
    if found is None:
        return 501, ApiError(
            501, f"Node {own_name()} is of a version without this operation", code="node_differs"
        ).body()
    head = http.Request(node_request.operation.partition(" ")[0], "/", node_request.query, [], {})
    head.client = node_request.address, 0
    request: ApiRequest[None] = ApiRequest(None, head, node_request.request_id)
    request.params = node_request.params
    if node_request.principal is not None:
        request.principal = node_request.principal
    try:
        request.query = found.query.strings(query_pairs(node_request.query.encode("latin-1")))
        request.body = node_request.body if found.body is None else found.body.json(node_request.body)
        answer = await found.handler(request)
    except Exception as error:
        failed = from_exception(error, found.writes)
        return failed.status, failed.body()
    return answer.status, answer.body


@operation("ping")
async def _ping(_request: ApiRequest[Any]) -> Response:
    return Response(204)

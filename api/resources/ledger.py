"""The ledger: inclusion proof of a transaction, the head, consistency proof of two heads.

Proofs are those of RFC 6962, so clients can verify them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from actors.ledger import server as ledger_server
from actors.ledger.proofs import MissingNodes
from actors.storage import repo
from api.context import ApiRequest
from api.http.errors import ApiError
from api.http.request import Response, json_response
from api.http.router import Routes
from api.resources.transactions import NO_TRANSACTION
from api.security.access import may_see
from schema import transaction_lists

routes = Routes("ledger")

Size = Annotated[int, msgspec.Meta(ge=0, le=9_223_372_036_854_775_807)]


class VerifiedBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the transaction is in the ledger as it is in the table, with its inclusion proof. Hashes are in hex."""

    verified: bool
    seq: int | None
    leaf_hash: str | None
    tree_size: int
    root_hash: str
    inclusion_proof: list[str]
    reason: str | msgspec.UnsetType = msgspec.UNSET


class HeadBody(msgspec.Struct, frozen=True):
    """Number and chain hash of the last entry, and the tree's size and root hash; hashes are in hex."""

    seq: int
    tree_size: int
    root_hash: str
    hash: str


class ConsistencyBody(msgspec.Struct, frozen=True):
    """A consistency proof of RFC 6962, hashes in hex."""

    proof: list[str]


class ConsistencyQuery(msgspec.Struct, frozen=True, rename={"first": "from", "second": "to"}):
    """The tree sizes of the two heads; `from` is the older one."""

    first: Size
    second: Size


@routes.get(
    "/api/v1/transactions/{id:uuid}/verify",
    summary="Verify a transaction",
    responses={200: VerifiedBody},
    errors=(404,),
)
async def verify(request: ApiRequest) -> Response:
    """Computes the leaf hash from the stored row, and proves that it is in the tree; `reason` says why if it is not."""
    transaction_id = request.params["id"]
    owner = await repo.pool().fetchval(transaction_lists.OWNER, transaction_id)
    hidden = not request.principal.is_admin if owner is None else not may_see(request, owner)
    if hidden:
        raise ApiError(404, NO_TRANSACTION)
    found = await ledger_server.verify(transaction_id)
    if found.reason == "unknown_transaction":
        raise ApiError(404, NO_TRANSACTION)
    return json_response(
        VerifiedBody(
            found.verified,
            found.seq,
            found.leaf_hash.hex() if found.leaf_hash else None,
            found.tree_size,
            found.root_hash.hex(),
            [node.hex() for node in found.inclusion_proof],
            found.reason if found.reason is not None else msgspec.UNSET,
        )
    )


@routes.get("/api/v1/ledger/head", summary="Head of the ledger", responses={200: HeadBody})
async def head(request: ApiRequest) -> Response:
    """The head as the database has it now."""
    now = await ledger_server.current_head()
    return json_response(HeadBody(now.seq, now.seq, now.root_hash.hex(), now.hash.hex()))


@routes.get(
    "/api/v1/ledger/consistency",
    summary="Prove that a head continues an older one",
    query=ConsistencyQuery,
    responses={200: ConsistencyBody},
    errors=(404,),
)
async def consistency(request: ApiRequest) -> Response:
    """The consistency proof of two tree sizes; 404 if the ledger never had them."""
    query: ConsistencyQuery = request.query
    try:
        proof = await ledger_server.consistency(query.first, query.second)
    except ValueError:
        raise ApiError(
            404, "The ledger never had these sizes, or `from` is larger than `to`", code="no_such_tree_size"
        ) from None
    except MissingNodes as damage:
        # Somebody has removed rows; `verify` reports it for each transaction, `bitnexus ledger verify` for the whole ledger.
        raise ApiError(500, f"The ledger is damaged: {damage}", code="ledger_damaged") from None
    return json_response(ConsistencyBody([node.hex() for node in proof]))

"""Operators' endpoints: the living tree."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from api.errors import ApiError
from api.request import Request, Response, answer
from api.router import ADMINS, Routes
from runtime import observer

routes = Routes("admin")


class TreeNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process in the supervision tree, or the place of one that does not run now (`pid` null)."""

    name: str
    pid: str | None
    type: str
    module: str
    status: str
    restart: str
    restarts: int
    children: list[TreeNode]
    strategy: str | msgspec.UnsetType = msgspec.UNSET
    message_queue_len: int = 0
    state: str | msgspec.UnsetType = msgspec.UNSET
    dynamic: bool | msgspec.UnsetType = msgspec.UNSET
    children_count: int | msgspec.UnsetType = msgspec.UNSET
    next_cursor: str | None = None


class TreeQuery(msgspec.Struct, frozen=True):
    """Whose children to show: below `root` (a name or pid), at most `limit` of each supervisor, after `cursor`."""

    root: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern="^[^\\u0000]*$")] = "root"
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    cursor: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")] | None = None


@routes.get(
    "/admin/tree", summary="The supervision tree", roles=ADMINS, query=TreeQuery, answers={200: TreeNode}, errors=(404,)
)
async def tree(request: Request) -> Response:
    """Every supervisor and worker with its status and restart count; large dynamic supervisors are paged."""
    query: TreeQuery = request.query
    start: Any = observer.parse_pid(query.root)
    found = None
    if start is not None:
        found = observer.tree(start, limit=query.limit, after=int(query.cursor or 0))
    if found is None:
        raise ApiError(404, "There is no such process")
    return answer(found)

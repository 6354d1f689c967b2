"""Operators' endpoints that read: the supervision tree, the process table, one process, reports, statistics, the audit log.

All require role admin, and can be about any node (see api/http/node_routes.py). They read the engine's tables and send no
message, so they answer while actors hang or restart.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from actors.instruments import gauges, instruments
from actors.server_state import server_state
from actors.storage import repo
from api.context import ApiRequest
from api.http.errors import ApiError
from api.http.fields import Zoned
from api.http.node_routes import NodeRoutes, OnNode
from api.http.request import Response, json_response
from api.http.router import ADMINS
from runtime import Pid, current_engine
from runtime.observe import observer, process_info, supervision_tree
from schema.activity import Statement

routes = NodeRoutes("admin", lane=None)

_ONE_LINE = "^[^\\u0000]*$"
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_ONE_LINE)]


class TreeNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A child in the supervision tree; `pid` is null while it does not run."""

    name: str
    pid: str | None
    type: Literal["supervisor", "worker"]
    module: str
    status: Literal["running", "suspended", "restarting", "stopped"]
    restart: str
    restarts: int
    children: list[TreeNode]
    strategy: str | msgspec.UnsetType = msgspec.UNSET
    message_queue_len: int = 0
    state: str | msgspec.UnsetType = msgspec.UNSET
    dynamic: bool | msgspec.UnsetType = msgspec.UNSET
    children_count: int | msgspec.UnsetType = msgspec.UNSET
    next_cursor: str | None = None


class TreeQuery(OnNode, frozen=True):
    """The subtree below `root` (a name or pid), with at most `limit` children of each dynamic supervisor, after `cursor`."""

    root: Text = "root"
    limit: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 100
    cursor: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}$(?!\n)")] | None = None


@routes.get(
    "/admin/tree",
    summary="The supervision tree",
    roles=ADMINS,
    query=TreeQuery,
    responses={200: TreeNode},
    errors=(404,),
)
async def tree(request: ApiRequest) -> Response:
    """Every supervisor and worker with its status and restart count; dynamic supervisors are paged."""
    query: TreeQuery = request.query
    start = process_info.parse_pid(query.root)
    found = None
    if start is not None:
        found = supervision_tree.tree(start, limit=query.limit, after=int(query.cursor or 0))
    if found is None:
        raise ApiError(404, "There is no such process")
    return json_response(found)


# ---- processes


class ProcessRow(msgspec.Struct, frozen=True):
    """A row of the process table. `memory` is an estimate in bytes, `links` a count."""

    pid: str
    name: str | None
    module: str
    status: str
    message_queue_len: int
    reductions: int
    memory: int
    links: int
    restarts: int


class ProcessPage(msgspec.Struct, frozen=True):
    """A page of the process table."""

    processes: list[ProcessRow]
    next_cursor: str | None


class ProcessQuery(OnNode, frozen=True):
    """Order, filters and page of the process table. `name` and `module` match substrings."""

    sort: Literal[
        "reductions", "message_queue_len", "memory", "restarts", "name", "module", "pid", "links"
    ] = "reductions"
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    cursor: Annotated[str, msgspec.Meta(max_length=600, pattern=r"^[0-9]{1,18}:[^\x00]*$(?!\n)")] | None = (
        None
    )
    name: Text | None = None
    module: Text | None = None
    status: Literal["waiting", "runnable", "running", "suspended"] | None = None


class ProcessBody(msgspec.Struct, frozen=True):
    """One process in full; docs/observer.md describes the fields."""

    process: dict[str, Any]


@routes.get(
    "/admin/processes",
    summary="The process table",
    roles=ADMINS,
    query=ProcessQuery,
    responses={200: ProcessPage},
)
async def processes(request: ApiRequest) -> Response:
    """Live processes, largest value first; names and modules in alphabetical order."""
    query: ProcessQuery = request.query
    cursor = _place(query) if query.cursor is not None else None
    rows, following = await observer.processes_in_turns(
        query.sort,
        limit=query.limit,
        cursor=cursor,
        name=query.name,
        module=query.module,
        status_is=query.status,
    )
    return json_response(
        {"processes": rows, "next_cursor": None if following is None else f"{following[1]}:{following[0]}"}
    )


def _place(query: ProcessQuery) -> tuple[Any, int] | None:
    """Where the page begins. A cursor of another sort order is ignored: the page is the first."""
    number, _, value = (query.cursor or "").partition(":")
    if query.sort in ("name", "module"):
        return value, int(number)
    try:
        return int(value), int(number)
    except ValueError:
        return None


def process_of(request: ApiRequest) -> Pid:
    """The live process that the path names, by pid or registered name. Raises ApiError 404."""
    pid = process_info.parse_pid(request.params["pid"])
    if pid is None:
        raise ApiError(404, "There is no such process")
    return pid


@routes.get(
    "/admin/processes/{pid:str}",
    summary="One process in full",
    roles=ADMINS,
    responses={200: ProcessBody},
    errors=(404,),
)
async def process(request: ApiRequest) -> Response:
    """Status, current message, mailbox sample, links, monitors, ancestors, state with secrets masked, recent reports."""
    pid = process_of(request)
    found = observer.process(pid)
    if found is None:
        raise ApiError(404, "There is no such process")
    registered = found["name"] if found["registered"] else None
    log = instruments().reports.last(10, pid=found["pid"], name=registered)
    found["reports"] = [entry.as_dict() for entry in log]
    return json_response({"process": found})


# ---- reports, figures, audit


class ReportQuery(OnNode, frozen=True):
    """Filter and page of the reports; `before` is the id of the last report of the previous page."""

    kind: Literal["crash", "supervisor", "long_schedule"] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=300)] = 50
    before: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None


class ReportList(msgspec.Struct, frozen=True):
    """Reports, newest first, and how many of each kind there were since the start."""

    reports: list[dict[str, Any]]
    totals: dict[str, int]


@routes.get(
    "/admin/reports", summary="The crash log", roles=ADMINS, query=ReportQuery, responses={200: ReportList}
)
async def reports(request: ApiRequest) -> Response:
    """The latest crash and supervisor reports and long schedules, at most 300."""
    query: ReportQuery = request.query
    log = instruments().reports
    found = log.last(query.limit, kind=query.kind, before=query.before)
    return json_response({"reports": [entry.as_dict() for entry in found], "totals": log.totals})


class Stats(msgspec.Struct, frozen=True):
    """Statistics of the last five minutes, one sample a second, oldest first; `now` has the current gauges."""

    started_at: float
    samples: list[dict[str, Any]]
    now: dict[str, Any]


class StatsQuery(OnNode, frozen=True):
    """How many of the newest samples."""

    limit: Annotated[int, msgspec.Meta(ge=0, le=300)] = 300


@routes.get(
    "/admin/stats",
    summary="Statistics of the last minutes",
    roles=ADMINS,
    query=StatsQuery,
    responses={200: Stats},
)
async def stats(request: ApiRequest) -> Response:
    """Requests, errors, latency, sockets, mailboxes, event loop lag, pool, batches, ledger and breakers."""
    own = instruments()
    samples = list(own.samples)
    limit = request.query.limit
    return json_response(
        {
            "started_at": own.started,
            "samples": samples[-limit:] if limit else [],
            "now": gauges(current_engine()),
        }
    )


class ActivityBody(msgspec.Struct, frozen=True):
    """Activity of the database.

    `slowest` are the slowest statements seen, other programs' included; `waits` those that wait for a lock now. `disk_free` is in
    bytes, null for a database on another machine; `write_age` is the seconds since a write succeeded.
    """

    slowest: tuple[Statement, ...]
    waits: tuple[Statement, ...]
    disk_free: int | None
    write_age: float | None
    write_error: str | None


@routes.get(
    "/admin/database",
    summary="Slow statements and lock waits",
    roles=ADMINS,
    responses={200: ActivityBody},
)
async def database(request: ApiRequest) -> Response:
    """The last sample of `pg_stat_activity`, taken every two seconds; statements below 100 ms are left out."""
    state = server_state()
    seen = state.activity
    age = None if state.written_at is None else round(time.monotonic() - state.written_at, 3)
    return json_response(ActivityBody(seen.slowest, seen.waits, seen.disk_free, age, state.write_error))


class AuditRow(msgspec.Struct, frozen=True):
    """Who did what, when, from where."""

    id: int
    actor_id: UUID | None
    actor_email: str | None
    action: str
    subject: str
    details: dict[str, Any]
    remote_address: str
    request_id: str
    inserted_at: Zoned


class AuditPage(msgspec.Struct, frozen=True):
    """A page of the audit log, newest first."""

    audit: list[AuditRow]
    next_cursor: str | None


class AuditQuery(OnNode, frozen=True):
    """Page of the audit log, which all nodes share; `action` selects one action."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}$(?!\n)")] | None = None
    action: Text | None = None


AUDIT = """
SELECT a.id, a.actor_id, u.email AS actor_email, a.action, a.subject, a.details, a.remote_address, a.request_id,
       a.inserted_at
FROM audit_log a LEFT JOIN users u ON u.id = a.actor_id
WHERE ($2::bigint IS NULL OR a.id < $2) AND ($3::text IS NULL OR a.action = $3)
ORDER BY a.id DESC LIMIT $1
"""


@routes.get(
    "/admin/audit", summary="The audit log", roles=ADMINS, query=AuditQuery, responses={200: AuditPage}
)
async def audit_log(request: ApiRequest) -> Response:
    """What operators did, newest first."""
    query: AuditQuery = request.query
    before = None if query.cursor is None else int(query.cursor)
    async with repo.connection(of=repo.operators) as connection:
        found = await connection.fetch(AUDIT, query.limit + 1, before, query.action)
    rows = [dict(row) for row in found[: query.limit]]
    return json_response(
        {"audit": rows, "next_cursor": str(rows[-1]["id"]) if len(found) > query.limit else None}
    )

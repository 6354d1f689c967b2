"""Tasks of the team: list with filters, one, create, change, complete, delete.

A change names the `version` that it is based on; a stale one is answered 409, and the client fetches the task and tries again.
The database listener broadcasts changes to the channels, whoever made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from actors.storage import repo
from api.context import ApiRequest
from api.http import cursor
from api.http.cursor import Cursor, Limit
from api.http.errors import ApiError
from api.http.fields import Name, Text, Timestamp, Title, Zoned
from api.http.request import Response, json_response, no_content
from api.http.router import ResponseSpec, Routes
from schema import tasks

routes = Routes("tasks")

NO_TASK = "There is no such task"

Status = Literal["open", "in_progress", "done", "cancelled"]
Priority = Literal["low", "normal", "high", "urgent"]
Version = Annotated[int, msgspec.Meta(ge=1, le=2_147_483_647)]


class Task(msgspec.Struct, frozen=True):
    """A task."""

    id: UUID
    title: str
    description: str
    team_member: str
    status: Status
    priority: Priority
    due_at: Zoned | None
    version: int
    inserted_at: Zoned
    updated_at: Zoned

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Task:
        """From a row of `schema.tasks`."""
        return cls(**row)


class TaskBody(msgspec.Struct, frozen=True):
    """One task."""

    task: Task


class TasksBody(msgspec.Struct, frozen=True):
    """A page of tasks, newest first."""

    tasks: list[Task]
    next_cursor: str | None


class TaskQuery(msgspec.Struct, frozen=True):
    """Filters and page of the list."""

    team_member: Name | None = None
    status: Status | None = None
    priority: Priority | None = None
    limit: Limit = 200
    cursor: Cursor | None = None


class NewTask(msgspec.Struct, frozen=True):
    """A new task."""

    title: Title
    description: Text = ""
    team_member: Name = ""
    status: Status = "open"
    priority: Priority = "normal"
    due_at: Timestamp | None = None


class TaskChange(msgspec.Struct, frozen=True):
    """The fields to change, and the version that the change is based on; other fields stay."""

    version: Version
    title: Title | None = None
    description: Text | None = None
    team_member: Name | None = None
    status: Status | None = None
    priority: Priority | None = None
    due_at: Timestamp | msgspec.UnsetType | None = msgspec.UNSET


class OnVersion(msgspec.Struct, frozen=True):
    """The expected version; by default any."""

    version: Version | None = None


@routes.get("/api/v1/tasks", summary="List tasks", query=TaskQuery, responses={200: TasksBody})
async def index(request: ApiRequest) -> Response:
    """Tasks, newest first, filtered by team member, status and priority."""
    query: TaskQuery = request.query
    rows = await repo.pool().fetch(
        tasks.PAGE,
        query.limit + 1,
        *cursor.decode(query.cursor),
        query.team_member,
        query.status,
        query.priority,
    )
    shown, following = cursor.page(rows, query.limit)
    return json_response(TasksBody([Task.of(row) for row in shown], following))


@routes.post("/api/v1/tasks", summary="Create a task", body=NewTask, responses={201: TaskBody})
async def create(request: ApiRequest) -> Response:
    """Creates a task."""
    body: NewTask = request.body
    row = await repo.pool().fetchrow(
        tasks.CREATE, body.title, body.description, body.team_member, body.status, body.priority, body.due_at
    )
    return json_response(TaskBody(Task.of(row)), 201)


@routes.get("/api/v1/tasks/{id:uuid}", summary="One task", responses={200: TaskBody}, errors=(404,))
async def show(request: ApiRequest) -> Response:
    """The task."""
    row = await repo.pool().fetchrow(tasks.BY_ID, request.params["id"])
    if row is None:
        raise ApiError(404, NO_TASK)
    return json_response(TaskBody(Task.of(row)))


@routes.patch(
    "/api/v1/tasks/{id:uuid}",
    summary="Change a task",
    body=TaskChange,
    responses={200: TaskBody},
    errors=(404, 409),
)
async def update(request: ApiRequest) -> Response:
    """Changes the version named; 409 when the task has another one by now."""
    body: TaskChange = request.body
    named = body.due_at is not msgspec.UNSET
    row = await repo.pool().fetchrow(
        tasks.UPDATE,
        request.params["id"],
        body.version,
        body.title,
        body.description,
        body.team_member,
        body.status,
        body.priority,
        body.due_at if named else None,
        named,
    )
    if row is None:
        raise await _missing_or_stale(request)
    return json_response(TaskBody(Task.of(row)))


@routes.post(
    "/api/v1/tasks/{id:uuid}/complete",
    summary="Complete a task",
    body=OnVersion,
    responses={200: TaskBody},
    errors=(404, 409),
)
async def complete(request: ApiRequest) -> Response:
    """Sets the status to done; a task that is done already stays as it is."""
    version = request.body.version
    row = await repo.pool().fetchrow(tasks.COMPLETE, request.params["id"], version)
    if row is None:
        row = await repo.pool().fetchrow(tasks.BY_ID, request.params["id"])
        if row is None or row["status"] != "done" or version not in (None, row["version"]):
            raise await _missing_or_stale(request)
    return json_response(TaskBody(Task.of(row)))


@routes.delete(
    "/api/v1/tasks/{id:uuid}",
    summary="Delete a task",
    query=OnVersion,
    responses={204: ResponseSpec(None, description="Deleted")},
    errors=(404, 409),
)
async def delete(request: ApiRequest) -> Response:
    """Deletes the task; with `version` only if it has that version."""
    gone = await repo.pool().fetchval(tasks.DELETE, request.params["id"], request.query.version)
    if gone is None:
        raise await _missing_or_stale(request)
    return no_content()


async def _missing_or_stale(request: ApiRequest) -> ApiError:
    row = await repo.pool().fetchrow(tasks.BY_ID, request.params["id"])
    if row is None:
        return ApiError(404, NO_TASK)
    return ApiError(
        409,
        f"The task has version {row['version']} now; fetch it and try again",
        code="stale_version",
        fields={"version": f"is stale, the task has {row['version']}"},
    )

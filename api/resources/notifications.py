"""Notifications: stored, then pushed on `notification:{user_id}` by the database listener."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec

from actors.storage import repo
from api.context import ApiRequest
from api.http import cursor
from api.http.cursor import Cursor, Limit
from api.http.errors import ApiError
from api.http.fields import Text, Title, Zoned
from api.http.request import Response, json_response
from api.http.router import ADMINS_AND_SERVICES, Routes
from api.security.access import own
from schema import notifications

routes = Routes("notifications")


class Notification(msgspec.Struct, frozen=True):
    """A notification; `read_at` is null while it is unread."""

    id: UUID
    user_id: UUID
    title: str
    body: str
    read_at: Zoned | None
    inserted_at: Zoned

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Notification:
        """From a row of `schema.notifications`."""
        return cls(**row)


class NotificationBody(msgspec.Struct, frozen=True):
    """One notification."""

    notification: Notification


class NotificationsBody(msgspec.Struct, frozen=True):
    """A page of notifications, newest first, and how many are unread in all."""

    notifications: list[Notification]
    next_cursor: str | None
    unread: int


class Unread(msgspec.Struct, frozen=True):
    """How many are unread."""

    unread: int


class ReadAll(msgspec.Struct, frozen=True):
    """How many were marked as read."""

    read: int


class NewNotification(msgspec.Struct, frozen=True):
    """A new notification."""

    user_id: UUID
    title: Title
    body: Text = ""


class NotificationQuery(msgspec.Struct, frozen=True):
    """Page and filter of the list: `unread` true lists only unread ones, false only read ones."""

    unread: Literal["true", "false"] | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


@routes.post(
    "/api/v1/notifications",
    summary="Notify a user",
    roles=ADMINS_AND_SERVICES,
    body=NewNotification,
    responses={201: NotificationBody},
    errors=(404,),
)
async def create(request: ApiRequest) -> Response:
    """Stores the notification; the user's channels get it as `new_notification`."""
    body: NewNotification = request.body
    try:
        row = await repo.pool().fetchrow(notifications.CREATE, body.user_id, body.title, body.body)
    except asyncpg.ForeignKeyViolationError:
        raise ApiError(
            404, "There is no such user", code="user_not_found", fields={"user_id": "no such user"}
        ) from None
    return json_response(NotificationBody(Notification.of(row)), 201)


@routes.get(
    "/api/v1/notifications",
    summary="List own notifications",
    query=NotificationQuery,
    responses={200: NotificationsBody},
)
async def index(request: ApiRequest) -> Response:
    """The caller's notifications, newest first."""
    query: NotificationQuery = request.query
    user_id = own(request)
    rows = await repo.pool().fetch(
        notifications.PAGE,
        query.limit + 1,
        *cursor.decode(query.cursor),
        user_id,
        None if query.unread is None else query.unread == "true",
    )
    unread = await repo.pool().fetchval(notifications.UNREAD, user_id)
    shown, following = cursor.page(rows, query.limit)
    return json_response(NotificationsBody([Notification.of(row) for row in shown], following, unread))


@routes.get(
    "/api/v1/notifications/unread_count", summary="Count own unread notifications", responses={200: Unread}
)
async def unread_count(request: ApiRequest) -> Response:
    """How many of the caller's notifications are unread."""
    return json_response(Unread(await repo.pool().fetchval(notifications.UNREAD, own(request))))


@routes.post(
    "/api/v1/notifications/{id:uuid}/read",
    summary="Mark one as read",
    responses={200: NotificationBody},
    errors=(404,),
)
async def read(request: ApiRequest) -> Response:
    """Marks one of the caller's notifications (an admin: anybody's) as read; `read_at` keeps its first value."""
    principal = request.principal
    row = await repo.pool().fetchrow(
        notifications.READ, request.params["id"], principal.user_id, principal.is_admin
    )
    if row is None:
        raise ApiError(404, "There is no such notification")
    return json_response(NotificationBody(Notification.of(row)))


@routes.post("/api/v1/notifications/read_all", summary="Mark all own as read", responses={200: ReadAll})
async def read_all(request: ApiRequest) -> Response:
    """Marks all of the caller's notifications as read."""
    return json_response(ReadAll(await repo.pool().fetchval(notifications.READ_ALL, own(request))))

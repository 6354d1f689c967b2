"""Users: list, one, create, change, deactivate. Users without role admin see and change only their own account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import msgspec

from actors.storage import repo
from api.context import ApiRequest
from api.http import cursor
from api.http.cursor import PageQuery
from api.http.errors import ApiError
from api.http.fields import Email, Name, Zoned
from api.http.request import Response, json_response
from api.http.router import ADMINS, Routes
from api.security import audit, disconnect
from api.security.access import may_see
from api.security.passwords import MAX_LENGTH, MIN_LENGTH, problem
from api.security.sessions import revoke
from schema import users

routes = Routes("users")

NO_USER = "There is no such user"
TAKEN = "A user with this address exists"

Role = Literal["user", "admin", "service"]
NewPassword = Annotated[str, msgspec.Meta(min_length=MIN_LENGTH, max_length=MAX_LENGTH)]


class User(msgspec.Struct, frozen=True):
    """A user."""

    id: UUID
    email: str
    name: str
    role: str
    active: bool
    inserted_at: Zoned
    updated_at: Zoned

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> User:
        """From a row of `schema.users`."""
        return cls(
            row["id"],
            row["email"],
            row["name"],
            row["role"],
            row["active"],
            row["inserted_at"],
            row["updated_at"],
        )


class UserBody(msgspec.Struct, frozen=True):
    """One user."""

    user: User


class UsersBody(msgspec.Struct, frozen=True):
    """A page of users, newest first."""

    users: list[User]
    next_cursor: str | None


class NewUser(msgspec.Struct, frozen=True):
    """A new user. Without a password they can't sign in."""

    email: Email
    name: Name = ""
    role: Role = "user"
    password: NewPassword | None = None

    def problems(self) -> dict[str, str]:
        """What is wrong with the fields beyond their types."""
        return _problems(self.password)


class UserChange(msgspec.Struct, frozen=True):
    """The fields to change; others stay. To change their own password, users give the current one."""

    email: Email | None = None
    name: Name | None = None
    role: Role | None = None
    active: bool | None = None
    password: NewPassword | None = None
    current_password: Annotated[str, msgspec.Meta(max_length=MAX_LENGTH)] | None = None

    def problems(self) -> dict[str, str]:
        """What is wrong with the fields beyond their types."""
        return _problems(self.password)


def _problems(password: str | None) -> dict[str, str]:
    reason = None if password is None else problem(password)
    return {} if reason is None else {"password": reason}


@routes.get("/api/v1/users", summary="List users", query=PageQuery, responses={200: UsersBody})
async def index(request: ApiRequest) -> Response:
    """For an admin all users, newest first; for others only their own account."""
    query: PageQuery = request.query
    principal = request.principal
    if not principal.is_admin:
        row = await repo.pool().fetchrow(users.BY_ID, principal.user_id)
        return json_response(UsersBody([User.of(row)] if row else [], None))
    rows = await repo.pool().fetch(users.PAGE, query.limit + 1, *cursor.decode(query.cursor))
    shown, following = cursor.page(rows, query.limit)
    return json_response(UsersBody([User.of(row) for row in shown], following))


@routes.get("/api/v1/users/{id:uuid}", summary="One user", responses={200: UserBody}, errors=(404,))
async def show(request: ApiRequest) -> Response:
    """The user. For others than admins, 404 unless it is their own account."""
    user_id: UUID = request.params["id"]
    if not may_see(request, user_id):
        raise ApiError(404, NO_USER)
    row = await repo.pool().fetchrow(users.BY_ID, user_id)
    if row is None:
        raise ApiError(404, NO_USER)
    return json_response(UserBody(User.of(row)))


@routes.post(
    "/api/v1/users",
    summary="Create a user",
    roles=ADMINS,
    body=NewUser,
    responses={201: UserBody},
    errors=(409,),
)
async def create(request: ApiRequest) -> Response:
    """Creates a user. 409 if the address is taken."""
    body: NewUser = request.body
    password_hash = None
    if body.password is not None:
        password_hash = await request.context.passwords.hash(body.password, request.principal.user_id)
    async with repo.pool().acquire() as connection, connection.transaction():
        try:
            row = await connection.fetchrow(users.CREATE, body.email, body.name, body.role, password_hash)
        except asyncpg.UniqueViolationError:
            raise ApiError(409, TAKEN, code="email_taken", fields={"email": "is taken"}) from None
        await audit.record(connection, request, "user.create", str(row["id"]), {"role": body.role})
    return json_response(UserBody(User.of(row)), 201)


@routes.patch(
    "/api/v1/users/{id:uuid}",
    summary="Change a user",
    body=UserChange,
    responses={200: UserBody},
    errors=(404, 409, 429),
)
async def update(request: ApiRequest) -> Response:
    """Changes the given fields. Only admins may change `role`, `email` and `active`."""
    user_id: UUID = request.params["id"]
    body: UserChange = request.body
    principal = request.principal
    if not may_see(request, user_id):
        raise ApiError(404, NO_USER)
    own = principal.user_id == user_id
    if not principal.is_admin and (
        body.role is not None or body.active is not None or body.email is not None
    ):
        raise ApiError(403, "Only an admin may change role, email and active")
    if own and principal.is_admin and (body.active is False or (body.role or "admin") != "admin"):
        raise ApiError(409, "Admins can't remove their own rights; another admin can", code="own_rights")
    password_hash = None
    ended: set[UUID] = set()
    if body.password is not None:
        if own:
            await _check_current_password(request, user_id, body.current_password)
        password_hash = await request.context.passwords.hash(body.password, principal.user_id)
    async with repo.pool().acquire() as connection, connection.transaction():
        try:
            row = await connection.fetchrow(
                users.UPDATE, user_id, body.email, body.name, body.role, body.active
            )
        except asyncpg.UniqueViolationError:
            raise ApiError(409, TAKEN, code="email_taken", fields={"email": "is taken"}) from None
        if row is None:
            raise ApiError(404, NO_USER)
        if password_hash is not None:
            await connection.execute(users.SET_HASH, user_id, password_hash)
        if password_hash is not None or body.active is False:
            ended = await revoke(connection, users.REVOKE_OF_USER, user_id)
        if principal.is_admin:
            named = ("email", "name", "role", "active", "password")
            changed = [name for name in named if getattr(body, name) is not None]
            await audit.record(connection, request, "user.update", str(user_id), {"changed": changed})
    # Also for a new role: an open socket keeps the role that it connected with, and its admin channels.
    gone = password_hash is not None or body.active is False or body.role is not None
    _changed(request, row, ended, sockets=gone)
    return json_response(UserBody(User.of(row)))


@routes.post(
    "/api/v1/users/{id:uuid}/deactivate",
    summary="Deactivate a user",
    roles=ADMINS,
    responses={200: UserBody},
    errors=(404, 409),
)
async def deactivate(request: ApiRequest) -> Response:
    """Ends the user's sessions and sockets; they can't sign in any more. Their data stays."""
    user_id: UUID = request.params["id"]
    if request.principal.user_id == user_id:
        raise ApiError(409, "Admins can't deactivate themselves; another admin can", code="own_rights")
    async with repo.pool().acquire() as connection, connection.transaction():
        row = await connection.fetchrow(users.UPDATE, user_id, None, None, None, False)
        if row is None:
            raise ApiError(404, NO_USER)
        ended = await revoke(connection, users.REVOKE_OF_USER, user_id)
        await audit.record(connection, request, "user.deactivate", str(user_id), {})
    _changed(request, row, ended, sockets=True)
    return json_response(UserBody(User.of(row)))


async def _check_current_password(request: ApiRequest, user_id: UUID, given: str | None) -> None:
    wrong = ApiError(403, "The current password is wrong", fields={"current_password": "is wrong"})
    if given is None:
        raise wrong
    async with request.context.guesses.guarded(user_id, request.caller):
        stored = await repo.pool().fetchval(users.HASH_OF, user_id)
        fits, _better = await request.context.passwords.check(stored, given, user_id)
        if not fits:
            request.context.guesses.failed(user_id, request.caller)
            raise wrong
        request.context.guesses.succeeded(user_id, request.caller)


def _changed(request: ApiRequest, row: Mapping[str, Any], ended: set[UUID], *, sockets: bool) -> None:
    sessions = request.context.sessions
    sessions.rights_changed(row["id"], row["role"], row["active"])
    for session_id in ended:
        sessions.session_ended(session_id)
    if sockets:
        disconnect.user(row["id"])

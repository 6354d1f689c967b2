"""Feature flags for gradual rollout: a flag is on for a percentage of users, always the same ones.

A user's bucket, 0 to 99, depends on nothing but the flag's name and the user's id, so every server always gives the same answer,
and raising the percentage only adds users. The database listener pushes changes on `admin:flags`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from actors.storage import repo
from api.context import ApiRequest
from api.http.errors import ApiError, invalid
from api.http.fields import Text, Zoned
from api.http.request import Response, json_response, no_content
from api.http.router import ADMINS, FLAG, ResponseSpec, Routes
from api.security import audit
from runtime import telemetry
from schema import flags

routes = Routes("flags")

CACHED_SECONDS = 1.0
EVALUATED = ("flags", "evaluated")


class Flag(msgspec.Struct, frozen=True):
    """A flag that is on for `percent` of the users."""

    name: str
    percent: int
    description: str
    updated_at: Zoned

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Flag:
        """From a row of `schema.flags`."""
        return cls(**row)


class FlagBody(msgspec.Struct, frozen=True):
    """One flag."""

    flag: Flag


class FlagList(msgspec.Struct, frozen=True):
    """All flags."""

    flags: list[Flag]


class FlagsBody(msgspec.Struct, frozen=True):
    """By the name of each flag, whether it is on for the caller."""

    flags: dict[str, bool]


class FlagChange(msgspec.Struct, frozen=True):
    """The flag's new percentage; without `description` the old one stays."""

    percent: Annotated[int, msgspec.Meta(ge=0, le=100)]
    description: Text | None = None


_cached: tuple[float, dict[str, int]] = (0.0, {})


async def percentages() -> dict[str, int]:
    """The percentage of each flag by its name, at most a second old."""
    global _cached
    until, known = _cached
    if time.monotonic() < until:
        return known
    rows = await repo.pool().fetch(flags.ALL)
    known = {row["name"]: row["percent"] for row in rows}
    _cached = (time.monotonic() + CACHED_SECONDS, known)
    return known


def forget() -> None:
    """Drops the cached percentages."""
    global _cached
    _cached = (0.0, {})


def bucket(name: str, subject: str) -> int:
    """A user's bucket for a flag, 0 to 99, the same on every server for ever."""
    digest = hashlib.sha256(f"{name}:{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100


@routes.get("/api/v1/flags", summary="Flags of the caller", responses={200: FlagsBody})
async def index(request: ApiRequest) -> Response:
    """Which flags are on for the caller."""
    subject = request.principal.subject
    on = {name: bucket(name, subject) < percent for name, percent in (await percentages()).items()}
    if telemetry.attached(EVALUATED):
        telemetry.execute(EVALUATED, {"count": 1}, {"flags": on})
    return json_response(FlagsBody(on))


@routes.get(
    "/api/v1/flags/all", summary="Every flag with its percentage", roles=ADMINS, responses={200: FlagList}
)
async def everything(request: ApiRequest) -> Response:
    """All flags with their percentages."""
    return json_response(FlagList([Flag.of(row) for row in await repo.pool().fetch(flags.ALL)]))


@routes.put(
    "/api/v1/flags/{name:flag}",
    summary="Set a flag",
    roles=ADMINS,
    body=FlagChange,
    responses={200: FlagBody},
    errors=(404,),
)
async def put(request: ApiRequest) -> Response:
    """Creates the flag or sets its percentage."""
    body: FlagChange = request.body
    name = request.params["name"]
    if not FLAG.fullmatch(name):
        raise invalid(
            {
                "name": "expected a lower-case letter, then up to 99 of a to z, 0 to 9, _ . and -, like use_phoenix_api"
            }
        )
    async with repo.pool().acquire() as connection, connection.transaction():
        row = await connection.fetchrow(flags.PUT, name, body.percent, body.description)
        await audit.record(connection, request, "flag.put", name, {"percent": body.percent})
    forget()
    return json_response(FlagBody(Flag.of(row)))


@routes.delete(
    "/api/v1/flags/{name:flag}",
    summary="Remove a flag",
    roles=ADMINS,
    responses={204: ResponseSpec(None, description="Removed")},
    errors=(404,),
)
async def delete(request: ApiRequest) -> Response:
    """Removes the flag; it is then missing from everybody's flags."""
    name = request.params["name"]
    async with repo.pool().acquire() as connection, connection.transaction():
        if await connection.fetchval(flags.DELETE, name) is None:
            raise ApiError(404, "There is no such flag")
        await audit.record(connection, request, "flag.delete", name, {})
    forget()
    return no_content()

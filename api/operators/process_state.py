"""Operators' endpoints that read and replace the state of a process.

Secrets are masked, and only plain values can be replaced: what JSON can't express, a secret or an address is refused, each by its
name. A replacement is audited before it is done.
"""

from __future__ import annotations

import re
from typing import Any, Final

import asyncpg
import msgspec

from api.context import ApiRequest
from api.http.errors import invalid
from api.http.node_routes import NodeRoutes
from api.http.request import Response, json_response
from api.http.router import ADMINS
from api.operators.actions import Done
from api.operators.admin import process_of
from api.operators.system_messages import TIMEOUT_MS, require_behaviour, result_of
from api.security import audit
from runtime import Pid
from runtime import sys as debug
from runtime.observe import process_info, term

routes = NodeRoutes("admin", lane=None)

_ADDRESS: Final = re.compile(r"(?:^|_)(?:url|uri|address|host|port|path|folder|directory|program|command)$")


class SetState(msgspec.Struct, frozen=True):
    """Attributes of the process's state and their new values."""

    set: dict[str, Any]


@routes.get(
    "/admin/processes/{pid:str}/state",
    summary="State of a process",
    roles=ADMINS,
    responses={200: Done},
    errors=(404, 409),
)
async def get_state(request: ApiRequest) -> Response:
    """`sys:get_state`, bounded, with secrets masked; it waits until the process has handled its current message."""
    pid = process_of(request)
    require_behaviour(pid)
    state = await result_of(debug.get_state(pid, TIMEOUT_MS))
    return json_response({"result": "ok", "pid": process_info.pid_text(pid), "state": term.show(state)})


@routes.put(
    "/admin/processes/{pid:str}/state",
    summary="Replace the state of a process",
    roles=ADMINS,
    body=SetState,
    responses={200: Done},
    errors=(404, 409),
)
async def replace_state(request: ApiRequest) -> Response:
    """`sys:replace_state` for existing attributes that hold a JSON value of the same type, or null."""
    pid = process_of(request)
    require_behaviour(pid)
    wanted: dict[str, Any] = request.body.set
    problems = _unfit(pid, wanted)
    if problems:
        raise invalid(problems)
    try:
        await audit.act(
            request, "process.replace_state", process_info.pid_text(pid), {"set": term.show(wanted)}
        )
    except asyncpg.UntranslatableCharacterError:
        raise invalid({"set": "must not contain the NUL character"}) from None

    def change(state: Any) -> Any:
        if isinstance(state, tuple):  # a state machine: (state, data)
            return (state[0], {**state[1], **wanted})
        return {**state, **wanted}

    await result_of(debug.replace_state(pid, change, TIMEOUT_MS))
    return json_response(
        {
            "result": "replaced",
            "pid": process_info.pid_text(pid),
            "state": term.show(await result_of(debug.get_state(pid, TIMEOUT_MS))),
        }
    )


def _unfit(pid: Pid, wanted: dict[str, Any]) -> dict[str, str]:
    problems: dict[str, str] = {}
    there = process_info.attributes(pid)
    for name, value in wanted.items():
        old = there.get(name)
        if name.startswith("_") or name not in there:
            problems[name] = "the process has no such attribute"
        elif term.is_secret(name):
            problems[name] = "is a secret and can't be set here"
        elif _ADDRESS.search(name):
            problems[name] = "is an address, which only the configuration sets"
        elif not isinstance(old, (str, int, float, bool, list, dict, type(None))):
            problems[name] = f"is a {type(old).__name__}, which JSON can't express"
        elif old is not None and value is not None and not _alike(old, value):
            problems[name] = f"expected a {type(old).__name__}"
    return problems


def _alike(old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return type(old) is type(new)
    if isinstance(old, (int, float)) and isinstance(new, (int, float)):
        return isinstance(old, float) or isinstance(new, int)
    return isinstance(new, type(old))

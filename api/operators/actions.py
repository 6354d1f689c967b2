"""Operators' endpoints that act: kill, restart, suspend, resume, trace, state, log level, drain.

Every action is audited before it is done: who, what, on what, from where. Operators must be able to act while the database is
down: the row is then written once it is back (see api/security/audit.py).

`restart` uses the supervisor. A child of a static supervisor is stopped according to its `shutdown` and started again
(`terminate_child`, `restart_child`): its siblings go on, and the restart does not count towards the intensity. A child of a
dynamic supervisor exits with reason `restart`: a permanent or transient one is restarted, a temporary one (a channel) starts
again when its client rejoins. The root has no supervisor: 409.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import asyncpg
import msgspec

from api.context import ApiRequest
from api.http.decoder import Decoder
from api.http.errors import ApiError, invalid
from api.http.node_routes import READ_TIMEOUT_MS, NodeRoutes
from api.http.request import Response, json_response
from api.http.router import ADMINS
from api.operators.admin import process_of
from api.security import audit
from runtime import DynamicSupervisor, Exit, Pid, current_engine, erlang, gen_server, supervisor
from runtime import sys as debug
from runtime.observe import process_info, supervision_tree, term
from runtime.phoenix import drainer

routes = NodeRoutes("admin", lane=None)

WAIT_SECONDS = 1.5  # how long an answer waits for a restart, which goes on in any case
REPLACED_SECONDS = 0.5  # how long an answer waits for the new process
SYS_MS = 2000
ROOT = "root"
LEVELS = ("debug", "info", "warning", "error", "critical")
_ADDRESS = re.compile(r"(?:^|_)(?:url|uri|address|host|port|path|folder|directory|program|command)$")
_started: set[asyncio.Task[Any]] = set()


class Done(msgspec.Struct, frozen=True):
    """The result of the action."""

    result: str


def action(
    name: str,
    body: type[msgspec.Struct] | None = None,
    timeout_ms: Callable[[ApiRequest], float] | None = None,
) -> Callable[[Callable[[ApiRequest, Pid], Awaitable[Response]]], None]:
    """Adds `POST /admin/processes/{pid}/NAME`: looks up the process, audits the action, then calls the handler.

    `body` describes the optional request body; `timeout_ms` is as for `NodeRoutes`.
    """

    def decorate(handler: Callable[[ApiRequest, Pid], Awaitable[Response]]) -> None:
        async def run(request: ApiRequest) -> Response:
            pid = process_of(request)
            subject = process_info.pid_text(pid)
            await audit.act(request, f"process.{name}", subject, {"name": process_info.label(pid)})
            return await handler(request, pid)

        run.__doc__ = handler.__doc__
        routes.post(
            f"/admin/processes/{{pid:str}}/{name}",
            summary=name.capitalize(),
            roles=ADMINS,
            responses={200: Done},
            errors=(404, 409),
            raw_body=True,
            body_schema=body,
            timeout_ms=timeout_ms,
        )(run)

    return decorate


@action("kill")
async def kill(request: ApiRequest, pid: Pid) -> Response:
    """`exit(Pid, kill)`: ends the process at once; its supervisor then follows its restart type."""
    place = supervision_tree.place_of(pid)
    name = process_info.name(pid)
    if place is None and name == ROOT:
        raise ApiError(409, "Killing the root would end the server; stop it with SIGTERM")
    erlang.exit(pid, "kill")
    return json_response(
        {"result": "killed", "pid": process_info.pid_text(pid), **await _replacement(pid, place, name)}
    )


@action("restart")
async def restart(request: ApiRequest, pid: Pid) -> Response:
    """Stops the process and starts it again, by its supervisor."""
    place = supervision_tree.place_of(pid)
    name = process_info.name(pid)
    if place is None:
        raise ApiError(409, "The process has no supervisor that could start it again")
    if _is(place.supervisor, DynamicSupervisor) or place.child.spec.restart == "temporary":
        task = _go_on(_end(pid))
    else:
        task = _go_on(_restart_child(place))
    # The child may wait for this very request to finish (the HTTP server does): then the restart goes on after the answer.
    await asyncio.wait((task,), timeout=WAIT_SECONDS)
    if not task.done():
        return json_response(
            {"result": "restarting", "pid": process_info.pid_text(pid), "new_pid": None, "restarts": None}
        )
    failed = task.result()
    if failed is not None:
        raise ApiError(409, f"The process did not start again: {failed}")
    return json_response(
        {"result": "restarted", "pid": process_info.pid_text(pid), **await _replacement(pid, place, name)}
    )


async def _restart_child(place: supervision_tree.Place) -> str | None:
    # Not cancelled with the request: a child that was stopped and not started again would stay down.
    sup, identity = place.supervisor, place.child.spec.id
    await supervisor.terminate_child(sup, identity)
    outcome = await supervisor.restart_child(sup, identity)
    return None if outcome[0] == "ok" else term.text(outcome[1])


async def _end(pid: Pid) -> str | None:
    try:
        await gen_server.stop(pid, "restart", 5000)
    except Exit:
        pass  # it ended for another reason, or was killed when it did not end in time
    return None


def _go_on(work: Any) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(work)
    _started.add(task)
    task.add_done_callback(_started.discard)
    return task


async def _replacement(old: Pid, place: supervision_tree.Place | None, name: str | None) -> dict[str, Any]:
    """Pid and restart count of the new process; null if there is none within REPLACED_SECONDS."""
    if place is None or place.child.spec.restart == "temporary":
        return {"new_pid": None, "restarts": None}
    engine = current_engine()
    deadline = engine.now() + REPLACED_SECONDS
    while engine.now() < deadline:
        found = _now(place, name)
        if found is not None and found is not old:
            return {"new_pid": process_info.pid_text(found), "restarts": place.child.restarts}
        await asyncio.sleep(0.005)
    return {"new_pid": None, "restarts": None}


def _now(place: supervision_tree.Place, name: str | None) -> Pid | None:
    if name is not None:
        return erlang.whereis(name)
    pid = place.child.pid
    return pid if isinstance(pid, Pid) and erlang.is_process_alive(pid) else None


async def _sys(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exit as error:
        reason = error.reason[0] if isinstance(error.reason, tuple) and error.reason else error.reason
        if reason == "noproc":
            raise ApiError(404, "There is no such process") from None
        if reason == "timeout":
            raise ApiError(409, "The process did not answer in time: it is busy with a message") from None
        raise ApiError(409, f"The process does not take system messages: {term.text(reason)}") from None


@action("suspend")
async def suspend(request: ApiRequest, pid: Pid) -> Response:
    """`sys:suspend`: the process's messages wait until `resume`."""
    _behaviour(pid)
    if process_info.name(pid) in ("repo", "endpoint") or supervision_tree.is_supervisor(pid):
        raise ApiError(409, "Suspending this process would stop the server, the console included")
    await _sys(debug.suspend(pid, SYS_MS))
    return json_response({"result": "suspended", "pid": process_info.pid_text(pid)})


@action("resume")
async def resume(request: ApiRequest, pid: Pid) -> Response:
    """`sys:resume`: the process handles messages again."""
    _behaviour(pid)
    await _sys(debug.resume(pid, SYS_MS))
    return json_response({"result": "resumed", "pid": process_info.pid_text(pid)})


def _is(pid: Pid, behaviour: type) -> bool:
    return issubclass(process_info.behaviour(pid) or type(None), behaviour)


def _behaviour(pid: Pid) -> None:
    if not _is(pid, gen_server.GenServer):
        raise ApiError(409, "Only behaviours (GenServer and the like) take system messages")


class Trace(msgspec.Struct, frozen=True):
    """How many messages to trace, and for how many milliseconds at most."""

    messages: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 5000


_TRACE = Decoder(Trace)


@action("trace", Trace, lambda request: _body(request, _TRACE).timeout_ms + READ_TIMEOUT_MS)
async def trace(request: ApiRequest, pid: Pid) -> Response:
    """`sys:trace`: the next messages in and replies out, up to `messages` of them or `timeout_ms`."""
    _behaviour(pid)
    wanted: Trace = _body(request, _TRACE)
    events: list[dict[str, Any]] = []
    enough = asyncio.Event()

    def sink(event: debug.TraceEvent) -> None:
        events.append(
            {
                "kind": event.kind,
                "message": term.text(event.message),
                "peer": None if event.peer is None else process_info.pid_text(event.peer),
                "at_ms": round(event.at, 3),
            }
        )
        if len(events) >= wanted.messages:
            enough.set()

    key = ("admin", request.request_id)
    await _sys(debug.trace(pid, wanted.messages, sink, SYS_MS, key))
    try:
        async with asyncio.timeout(wanted.timeout_ms / 1000):
            await enough.wait()
    except TimeoutError:
        pass
    finally:
        if erlang.is_process_alive(pid) and not enough.is_set():
            try:
                await debug.no_trace(pid, 200, key)
            except Exit:
                pass  # busy or dead: the trace ends after its count, or with the process
    return json_response({"result": "traced", "pid": process_info.pid_text(pid), "events": events})


def _body(request: ApiRequest, decoder: Decoder) -> Any:
    return decoder.json(request.body or b"{}")


# ---- state


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
    _behaviour(pid)
    state = await _sys(debug.get_state(pid, SYS_MS))
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
    _behaviour(pid)
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

    await _sys(debug.replace_state(pid, change, SYS_MS))
    return json_response(
        {
            "result": "replaced",
            "pid": process_info.pid_text(pid),
            "state": term.show(await _sys(debug.get_state(pid, SYS_MS))),
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


# ---- the whole server


class LogLevel(msgspec.Struct, frozen=True):
    """A level for one logger; an empty `logger` is the root logger."""

    level: Literal["debug", "info", "warning", "error", "critical"]
    logger: Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9_.]*$(?!\n)")] = ""


@routes.get("/admin/log-level", summary="Log levels", roles=ADMINS, responses={200: Done})
async def log_levels(request: ApiRequest) -> Response:
    """The level of the root logger, and of each logger that has its own."""
    own = {
        name: logging.getLevelName(logger.level).lower()
        for name, logger in sorted(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level
    }
    return json_response(
        {"result": "ok", "level": logging.getLevelName(logging.root.level).lower(), "loggers": own}
    )


@routes.put(
    "/admin/log-level",
    summary="Set a log level",
    roles=ADMINS,
    body=LogLevel,
    responses={200: Done},
)
async def set_log_level(request: ApiRequest) -> Response:
    """Sets a level until the server ends."""
    wanted: LogLevel = request.body
    await audit.act(request, "log.level", wanted.logger or "root", {"level": wanted.level})
    logging.getLogger(wanted.logger or None).setLevel(wanted.level.upper())
    return json_response({"result": "set", "logger": wanted.logger or "root", "level": wanted.level})


class Drain(msgspec.Struct, frozen=True):
    """How many sockets are closed per second; after `timeout_ms` the rest is closed at once."""

    per_second: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=600_000)] = 30_000


_DRAIN = Decoder(Drain)


class Draining(msgspec.Struct, frozen=True):
    """How many sockets are being closed."""

    result: str
    sockets: int


@routes.post(
    "/admin/drain",
    summary="Drain the node",
    roles=ADMINS,
    responses={200: Draining},
    raw_body=True,
    body_schema=Drain,
)
async def drain(request: ApiRequest) -> Response:
    """Closes all sockets of the node in batches, one a second, so that clients reconnect elsewhere. The server keeps serving."""
    wanted: Drain = _body(request, _DRAIN)
    sockets = erlang.whereis("sockets")
    count = 0 if sockets is None else len(process_info.peek(sockets, "transports") or ())
    await audit.act(request, "node.drain", "sockets", {"sockets": count, "per_second": wanted.per_second})
    if sockets is not None:
        _go_on(drainer.drain("sockets", wanted.per_second, 1000, wanted.timeout_ms))
    return json_response({"result": "draining", "sockets": count})

"""Operators' endpoints that act on a process: kill, restart, suspend, resume, trace.

Every action is audited before it is done: who, what, on what, from where. Operators must be able to act while the database is
down: the row is then written once it is back (see api/security/audit.py).

`restart` uses the supervisor. A child of a static supervisor is stopped according to its `shutdown` and started again
(`terminate_child`, `restart_child`): its siblings go on, and the restart does not count towards the intensity. A child of a
dynamic supervisor exits with reason `restart`: a permanent or transient one is restarted, a temporary one (a channel) starts
again when its client rejoins. The root has no supervisor: 409.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

import msgspec

from api.context import ApiRequest
from api.http.decoder import Decoder
from api.http.errors import ApiError
from api.http.node_routes import READ_TIMEOUT_MS, NodeRoutes
from api.http.request import Response, json_response
from api.http.router import ADMINS
from api.operators.admin import process_of
from api.operators.system_messages import TIMEOUT_MS, is_a, require_behaviour, result_of
from api.security import audit
from runtime import DynamicSupervisor, Exit, Pid, current_engine, erlang, gen_server, supervisor
from runtime import sys as debug
from runtime.observe import process_info, supervision_tree, term

routes = NodeRoutes("admin", lane=None)

WAIT_SECONDS = 1.5  # how long an answer waits for a restart, which goes on in any case
REPLACED_SECONDS = 0.5  # how long an answer waits for the new process
ROOT = "root"
_restarts: set[asyncio.Task[str | None]] = set()  # strong references: the event loop holds tasks weakly


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
    if is_a(place.supervisor, DynamicSupervisor) or place.child.spec.restart == "temporary":
        task = _in_background(_stop(pid))
    else:
        task = _in_background(_restart_child(place))
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
    sup, identity = place.supervisor, place.child.spec.id
    await supervisor.terminate_child(sup, identity)
    outcome = await supervisor.restart_child(sup, identity)
    return None if outcome[0] == "ok" else term.text(outcome[1])


async def _stop(pid: Pid) -> str | None:
    try:
        await gen_server.stop(pid, "restart", 5000)
    except Exit:
        pass  # it ended for another reason, or was killed when it did not end in time
    return None


def _in_background(work: Coroutine[Any, Any, str | None]) -> asyncio.Task[str | None]:
    # Not cancelled with the request: a child that was stopped and not started again would stay down.
    task = asyncio.create_task(work)
    _restarts.add(task)
    task.add_done_callback(_restarts.discard)
    return task


async def _replacement(old: Pid, place: supervision_tree.Place | None, name: str | None) -> dict[str, Any]:
    """Pid and restart count of the new process; null if there is none within REPLACED_SECONDS."""
    if place is None or place.child.spec.restart == "temporary":
        return {"new_pid": None, "restarts": None}
    engine = current_engine()
    deadline = engine.now() + REPLACED_SECONDS
    while engine.now() < deadline:
        found = _current(place, name)
        if found is not None and found is not old:
            return {"new_pid": process_info.pid_text(found), "restarts": place.child.restarts}
        await asyncio.sleep(0.005)
    return {"new_pid": None, "restarts": None}


def _current(place: supervision_tree.Place, name: str | None) -> Pid | None:
    if name is not None:
        return erlang.whereis(name)
    pid = place.child.pid
    return pid if isinstance(pid, Pid) and erlang.is_process_alive(pid) else None


@action("suspend")
async def suspend(request: ApiRequest, pid: Pid) -> Response:
    """`sys:suspend`: the process's messages wait until `resume`."""
    require_behaviour(pid)
    if process_info.name(pid) in ("repo", "endpoint") or supervision_tree.is_supervisor(pid):
        raise ApiError(409, "Suspending this process would stop the server, the console included")
    await result_of(debug.suspend(pid, TIMEOUT_MS))
    return json_response({"result": "suspended", "pid": process_info.pid_text(pid)})


@action("resume")
async def resume(request: ApiRequest, pid: Pid) -> Response:
    """`sys:resume`: the process handles messages again."""
    require_behaviour(pid)
    await result_of(debug.resume(pid, TIMEOUT_MS))
    return json_response({"result": "resumed", "pid": process_info.pid_text(pid)})


class Trace(msgspec.Struct, frozen=True):
    """How many messages to trace, and for how many milliseconds at most."""

    messages: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 5000


_TRACE = Decoder(Trace)


def _wanted(request: ApiRequest) -> Trace:
    return _TRACE.json(request.body or b"{}")


@action("trace", Trace, lambda request: _wanted(request).timeout_ms + READ_TIMEOUT_MS)
async def trace(request: ApiRequest, pid: Pid) -> Response:
    """`sys:trace`: the next messages in and replies out, up to `messages` of them or `timeout_ms`."""
    require_behaviour(pid)
    wanted = _wanted(request)
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
    await result_of(debug.trace(pid, wanted.messages, sink, TIMEOUT_MS, key))
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

"""OTP's `supervisor`: starts children in order, restarts them by strategy, stops them in reverse order.

It owns its children (linked processes), takes their EXIT messages and the calls of the functions below, and gives up with
reason `shutdown` when there were more than `intensity` restarts within `period` seconds. If it is killed its children
die by the link. `simple_one_for_one` is here too; for tens of thousands of children see `DynamicSupervisor`.

Functions give OTP's results as Python values: `("ok", pid)`, `("error", reason)`, `"ok"`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from runtime.core import reports
from runtime.core.exits import Error, Stack, error, is_atom, is_shutdown
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.signals import ExitMessage
from runtime.otp.backoff import Delays
from runtime.otp.child_spec import (
    Child,
    ChildSpec,
    Restarting,
    RestartIntensity,
    SupFlags,
    check_childspec,
    check_flags,
    complete,
    hashable,
    shut_down,
    shut_down_all,
    start_child_process,
)
from runtime.otp.erlang import send_after
from runtime.otp.exact_key import ExactDict
from runtime.otp.gen import Dest
from runtime.otp.gen_server import GenServer, Ignore, Ok, Reply, Stop, call, cast
from runtime.otp.strategies import STRATEGIES


class _Shutdown(Exception):
    """The supervisor has to end with reason shutdown: intensity reached, or auto_shutdown."""


@dataclass(slots=True)
class _TryAgain:
    child: Any  # an id, or the Restarting of a simple_one_for_one


@dataclass(frozen=True, slots=True)
class SupervisorRequest:
    """A call of one of the functions below."""

    function: str
    args: tuple[Any, ...] = field(default_factory=tuple)


class _FailedToStart(Exception):
    def __init__(self, child_id: Any, reason: Any) -> None:
        super().__init__(child_id, reason)
        self.child_id = child_id
        self.reason = reason


class Supervisor(GenServer):
    """A supervisor. Subclass it and return `(SupFlags, [ChildSpec, ...])` or `Ignore()` from `init`, or start it with a list:

    await Supervisor.start_link([ChildSpec("counter", (Counter.start_link, (0,)))], strategy="one_for_one")
    """

    kind: ClassVar[str] = "supervisor"

    def init(self, children: Sequence[ChildSpec] = (), flags: SupFlags | None = None) -> Any:
        """`Module:init/1`: `(SupFlags, child specs)` or `Ignore()`."""
        return flags or SupFlags(), children

    @classmethod
    async def start_link(
        cls, *args: Any, name: Any = None, timeout: float | None = None, **flags: Any
    ) -> Pid | None:
        """`supervisor:start_link/2,3`: returns when all children have started. Flags as of SupFlags, if `init` is not overridden.

        Raises StartError(("shutdown", ("failed_to_start_child", id, reason))) and stops those already started.
        """
        if flags:
            args = (*args, SupFlags(**flags))
        return await super().start_link(*args, name=name, timeout=timeout)

    # ---- starting

    async def _init(self, *args: Any, **kwargs: Any) -> Any:
        self._myRef.own_relations().trap_exit = True
        result = self.init(*args, **kwargs)
        if isinstance(result, Awaitable):
            result = await result
        if isinstance(result, Ignore):
            return result
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], SupFlags)):
            module = type(self).__module__
            return Stop(("bad_return", (module, "init", result)))
        flags, specs = result
        problem = check_flags(flags)
        if problem is not None:
            return Stop(("supervisor_data", problem))
        self.flags = flags
        self.intensity = RestartIntensity(flags.intensity, flags.period)
        self.children: ExactDict[Child] = ExactDict()  # in start order
        self.dynamic: dict[int, Child] = {}  # simple_one_for_one: by id of its pid or Restarting
        self.dynamic_restarts = 0  # OTP's counter: a terminate_child during the retries does not take it back
        self.template: ChildSpec | None = None
        if self.simple and len(specs) != 1:  # that there is one template is looked at before what it says
            return Stop(("bad_start_spec", list(specs)))
        for spec in specs:
            problem = check_childspec(spec, flags.auto_shutdown)
            if problem is not None:
                return Stop(("start_spec", problem))
            if spec.id in self.children:
                return Stop(("start_spec", ("duplicate_child_name", spec.id)))
            self.children[spec.id] = Child(complete(spec))
        if self.simple:
            self.template = self.children.popitem()[1].spec
            return Ok()
        try:
            await self._start_children(list(self.children))
        except _FailedToStart as failure:
            await self._terminate_children(list(self.children))
            return Stop(("shutdown", ("failed_to_start_child", failure.child_id, failure.reason)))
        return Ok()

    @property
    def simple(self) -> bool:
        """True for simple_one_for_one."""
        return self.flags.strategy == "simple_one_for_one"

    async def _start(self, child: Child) -> tuple[Any, ...]:
        if child.spec.backoff is not None:
            child.delays = child.delays or Delays()
            child.delays.started = self.now()
        result = await start_child_process(child.spec, child.args or child.spec.start[1])
        if result[0] == "ok":
            reports.progress(self._myRef, child.spec.id, result[1])
        return result

    async def _start_children(self, ids: list[Any]) -> None:
        for child_id in ids:
            child = self.children[child_id]
            status, value, *_ = await self._start(child)
            if status == "error":
                self._report("start_error", value, child)
                raise _FailedToStart(child_id, value)
            if value is None and child.spec.restart == "temporary":
                del self.children[child_id]
            else:
                child.pid = value

    async def _terminate_children(self, ids: list[Any]) -> None:
        """Stops these children, last first. Temporary ones are forgotten."""
        for child_id in reversed(ids):
            child = self.children[child_id]
            await self._terminate_child(child)
            child.pid = None
            if child.spec.restart == "temporary":
                del self.children[child_id]

    async def _terminate_child(self, child: Child) -> None:
        if not isinstance(child.pid, Pid):
            return
        reason = await shut_down(child.pid, child.spec.shutdown)
        expected = "killed" if child.spec.shutdown == "brutal_kill" else "shutdown"
        if is_atom(reason, expected) or (is_shutdown(reason) and child.spec.restart != "permanent"):
            return
        self._report("shutdown_error", reason, child)

    # ---- a child ends

    async def handle_info(self, message: Any) -> Any:
        if isinstance(message, _TryAgain):  # after a backoff
            return await self.handle_cast(message)
        if not isinstance(message, ExitMessage):
            return None
        child = self._find_by_pid(message.pid)
        if child is None:
            return None
        return await self._or_stop(self._child_ended(child, message.reason))

    async def _or_stop(self, step: Awaitable[None]) -> Any:
        try:
            await step
        except _Shutdown:
            return Stop("shutdown")
        return None

    def _find_by_pid(self, pid: Pid) -> Child | None:
        if self.simple:
            return self.dynamic.get(id(pid))
        for child in self.children.values():
            if child.pid is pid:
                return child
        return None

    async def _child_ended(self, child: Child, reason: Any) -> None:
        if child.spec.restarts_after(reason):
            self._report("child_terminated", reason, child)
            if child.spec.backoff is None:
                await self._restart(child)
            else:
                self._restart_later(child)
            return
        if not is_shutdown(reason):
            self._report("child_terminated", reason, child)
        self._forget(child)
        self._auto_shutdown(child)

    def _forget(self, child: Child) -> None:
        """It runs no more: a temporary child's spec goes, another's stays with no pid."""
        if self.simple:
            self.dynamic.pop(id(child.pid), None)
        elif child.spec.restart == "temporary":
            self.children.pop(child.spec.id, None)
        else:
            child.pid = None

    def _restart_later(self, child: Child) -> None:
        if self.simple:
            del self.dynamic[id(child.pid)]
        child.pid = _restarting(child.pid)
        if self.simple:
            self.dynamic[id(child.pid)] = child
            self.dynamic_restarts += 1
        self._try_again(child)

    def _try_again(self, child: Child) -> None:
        again = _TryAgain(child.pid if self.simple else child.spec.id)
        if child.spec.backoff is None or child.delays is None:
            cast(self._myRef, again)
        else:
            delay = child.delays.next(child.spec.backoff, self.now())
            send_after(delay, self.pid, again)

    def _auto_shutdown(self, child: Child) -> None:
        if not child.spec.significant or self.flags.auto_shutdown == "never":
            return
        if self.flags.auto_shutdown == "all_significant":
            if self.simple:
                remain = bool(self.dynamic)
            else:
                remain = any(c.spec.significant and c.pid is not None for c in self.children.values())
            if remain:
                return
        raise _Shutdown

    async def _restart(self, child: Child) -> None:
        if child.spec.backoff is None and not self.intensity.add(self.now()):
            self._report("shutdown", "reached_max_restart_intensity", child)
            self._forget(child)
            raise _Shutdown
        child.restarts += 1
        if self.simple:
            await self._restart_dynamic(child)
            return
        strategy = STRATEGIES[self.flags.strategy]
        together = strategy.together(self.children.values(), child)
        if together:
            await self._restart_many(child, [one.spec.id for one in together])
        else:
            await self._restart_one(child)

    async def _restart_one(self, child: Child) -> None:
        status, value, *_ = await self._start(child)
        if status == "ok":
            child.pid = value
            return
        child.pid = _restarting(child.pid)
        self._report("start_error", value, child)
        self._try_again(child)

    async def _restart_many(self, child: Child, ids: list[Any]) -> None:
        failed = child.pid
        child.pid = None
        await self._terminate_children(ids)
        try:
            await self._start_children([child_id for child_id in ids if child_id in self.children])
        except _FailedToStart as failure:
            other = self.children[failure.child_id]
            other.pid = _restarting(failed) if other is child else Restarting(None)
            self._try_again(other)

    async def _restart_dynamic(self, child: Child) -> None:
        if isinstance(child.pid, Restarting):
            self.dynamic_restarts -= 1
        self.dynamic.pop(id(child.pid), None)
        status, value, *_ = await self._start(child)
        if status == "ok":
            child.pid = value
        else:
            child.pid = _restarting(child.pid)
            self.dynamic_restarts += 1
            self._report("start_error", value, child)
            self._try_again(child)
        # An ignored restart stays listed as undefined, as OTP has it; a second one takes its place.
        self.dynamic[id(child.pid)] = child

    async def handle_cast(self, request: Any) -> Any:
        match request:
            case _TryAgain(key):
                child = self.dynamic.get(id(key)) if self.simple else self.children.get(key)
                if child is not None and isinstance(child.pid, Restarting):
                    return await self._or_stop(self._restart(child))
                return None
        raise Error("function_clause")  # as OTP's: what is none of its requests ends a supervisor

    # ---- requests

    async def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case SupervisorRequest("start_child", (spec,)) if self.simple:
                return Reply(await self._start_dynamic(spec))
            case SupervisorRequest("start_child", (spec,)):
                problem = check_childspec(spec, self.flags.auto_shutdown)
                return Reply(("error", problem) if problem is not None else await self._add(complete(spec)))
            case SupervisorRequest("terminate_child", (key,)):
                return Reply(await self._terminate_request(key))
            case SupervisorRequest("restart_child" | "delete_child") if self.simple:
                return Reply(("error", "simple_one_for_one"))
            case SupervisorRequest("restart_child", (key,)):
                return Reply(await self._restart_request(key))
            case SupervisorRequest("delete_child", (key,)):
                problem = self._not_stopped(key)
                if problem is None:
                    del self.children[key]
                return Reply("ok" if problem is None else ("error", problem))
            case SupervisorRequest("get_childspec", (key,)):
                child = self._find(key)
                return Reply(("error", "not_found") if child is None else ("ok", child.spec))
            case SupervisorRequest("which_children"):
                return Reply(self._which_children())
            case SupervisorRequest("count_children"):
                return Reply(self._count_children())
            case SupervisorRequest("children"):
                return Reply([replace(child) for child in (*self.children.values(), *self.dynamic.values())])
        raise Error("function_clause")

    def _find(self, key: Any) -> Child | None:
        if not self.simple:
            return self.children.get(key) if hashable(key) else None
        assert self.template is not None
        if not isinstance(key, Pid):
            return Child(self.template) if key == self.template.id else None
        child = self.dynamic.get(id(key))
        if child is None:
            for candidate in self.dynamic.values():
                if isinstance(candidate.pid, Restarting) and candidate.pid.old is key:
                    return candidate
            if key.cell.execution.mode == DEAD:
                return Child(self.template)
        return child

    def _not_stopped(self, key: Any) -> str | None:
        child = self._find(key)
        if child is None:
            return "not_found"
        if child.pid is None:
            return None
        return "restarting" if isinstance(child.pid, Restarting) else "running"

    async def _add(self, spec: ChildSpec) -> Any:
        old = self.children.get(spec.id)
        if old is not None:
            return ("error", ("already_started", old.pid) if isinstance(old.pid, Pid) else "already_present")
        child = Child(spec)
        result = await self._start(child)
        status, value, *_ = result
        if status == "error":
            return ("error", (value, child))
        if value is not None or spec.restart != "temporary":
            child.pid = value
            self.children[spec.id] = child
        return result

    async def _start_dynamic(self, extra: Any) -> Any:
        assert self.template is not None
        if not isinstance(extra, list | tuple):  # the template's arguments and these make no list
            return ("error", ("EXIT", ("badarg", Stack(None))))
        child = Child(self.template, args=(*self.template.start[1], *extra))
        result = await self._start(child)
        status, value, *_ = result
        if status == "ok" and value is not None:
            child.pid = value
            self.dynamic[id(value)] = child
        return result

    async def _terminate_request(self, key: Any) -> Any:
        if self.simple and not isinstance(key, Pid):
            return ("error", "simple_one_for_one")
        child = self._find(key)
        if child is None:
            return ("error", "not_found")
        await self._terminate_child(child)
        self._forget(child)
        return "ok"

    async def _restart_request(self, key: Any) -> Any:
        problem = self._not_stopped(key)
        if problem is not None:
            return ("error", problem)
        child = self.children[key]
        result = await self._start(child)
        if result[0] == "ok":
            child.pid = result[1]
            child.restarts += 1
        return result

    def _which_children(self) -> list[tuple[Any, Any, str, tuple[Any, ...]]]:
        def row(child: Child, child_id: Any) -> tuple[Any, Any, str, tuple[Any, ...]]:
            pid = "restarting" if isinstance(child.pid, Restarting) else child.pid
            return (child_id, pid, child.spec.type, child.spec.modules)

        if self.simple:
            return [row(child, None) for child in self.dynamic.values()]
        return [row(child, child.spec.id) for child in reversed(list(self.children.values()))]

    def _count_children(self) -> dict[str, int]:
        if self.simple:
            assert self.template is not None
            size = len(self.dynamic)
            active = size - self.dynamic_restarts
            supervisors = size if self.template.type == "supervisor" else 0
            return {"specs": 1, "active": active, "supervisors": supervisors, "workers": size - supervisors}
        children = self.children.values()
        supervisors = sum(child.spec.type == "supervisor" for child in children)
        return {
            "specs": len(children),
            "active": sum(child.alive for child in children),
            "supervisors": supervisors,
            "workers": len(children) - supervisors,
        }

    # ---- the end

    async def terminate(self, reason: Any) -> None:
        if self.simple:
            assert self.template is not None
            if id(None) in self.dynamic:
                error("function_clause")  # OTP 25 cannot stop a child that ignored its restart
            shutdown = self.template.shutdown
            await shut_down_all(
                (child.pid, shutdown) for child in self.dynamic.values() if isinstance(child.pid, Pid)
            )
        else:
            await self._terminate_children(list(self.children))

    def _report(self, error: str, reason: Any, child: Child) -> None:
        reports.supervisor(self._myRef, error, reason, child.spec.id, child.pid)


def _restarting(pid: Any) -> Restarting:
    return pid if isinstance(pid, Restarting) else Restarting(pid)


# ---- the functions of the module


async def start_child(sup: Dest, spec: Any) -> Any:
    """`supervisor:start_child/2`: `("ok", pid)`, `("ok", None)` if it ignored, `("error", reason)`.

    For simple_one_for_one `spec` is a list of extra arguments.
    """
    return await call(sup, SupervisorRequest("start_child", (spec,)), None)


async def terminate_child(sup: Dest, key: Any) -> Any:
    """`supervisor:terminate_child/2` by id (by pid for simple_one_for_one): `"ok"` or `("error", reason)`."""
    return await call(sup, SupervisorRequest("terminate_child", (key,)), None)


async def restart_child(sup: Dest, key: Any) -> Any:
    """`supervisor:restart_child/2`: starts a child that was terminated: `("ok", pid)` or `("error", reason)`."""
    return await call(sup, SupervisorRequest("restart_child", (key,)), None)


async def delete_child(sup: Dest, key: Any) -> Any:
    """`supervisor:delete_child/2`: forgets a child that does not run: `"ok"` or `("error", reason)`."""
    return await call(sup, SupervisorRequest("delete_child", (key,)), None)


async def get_childspec(sup: Dest, key: Any) -> Any:
    """`supervisor:get_childspec/2`: `("ok", ChildSpec)` or `("error", "not_found")`."""
    return await call(sup, SupervisorRequest("get_childspec", (key,)), None)


async def which_children(sup: Dest) -> list[tuple[Any, Any, str, tuple[Any, ...]]]:
    """`supervisor:which_children/1`: `(id, pid | None | "restarting", type, modules)`, last started first."""
    return await call(sup, SupervisorRequest("which_children"), None)


def check_childspecs(specs: Any, auto_shutdown: str = "never") -> Any:
    """`supervisor:check_childspecs/1,2`: "ok", or ("error", reason) of the first that is wrong; ids must be different.

    Without an auto_shutdown of its own (the default is `undefined` in OTP) significance is not looked at.
    """
    if not isinstance(specs, list | tuple):
        return ("error", ("badarg", specs))
    ids: ExactDict[None] = ExactDict()
    for spec in specs:
        problem = check_childspec(spec, auto_shutdown, auto_shutdown != "never")
        if problem is not None:
            return ("error", problem)
        if spec.id in ids:
            return ("error", ("duplicate_child_name", spec.id))
        ids[spec.id] = None
    return "ok"


async def count_children(sup: Dest) -> dict[str, int]:
    """`supervisor:count_children/1`: specs, active, supervisors, workers."""
    return await call(sup, SupervisorRequest("count_children"), None)


async def children(sup: Dest) -> list[Child]:
    """Copies of the children with their restart counts, in start order. OTP has no such function; observers need it."""
    return await call(sup, SupervisorRequest("children"), None)

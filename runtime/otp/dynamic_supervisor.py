"""Elixir's `DynamicSupervisor`: children that come and go, by the ten thousand, started by `start_child`.

It owns its children (linked processes, known by pid), takes their EXIT messages and the calls of the functions below. Its
strategy is one_for_one; on its own end all children are stopped at once, each with its own `shutdown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from runtime.core import reports
from runtime.core.exits import Error, is_atom, is_shutdown
from runtime.core.pid import Pid
from runtime.core.signals import ExitMessage
from runtime.otp.child_spec import (
    Child,
    Restarting,
    RestartIntensity,
    SupFlags,
    check_childspec,
    check_flags,
    complete,
    shut_down,
    shut_down_all,
    start_child_process,
)
from runtime.otp.gen import Dest
from runtime.otp.gen_server import GenServer, Reply, StartError, Stop, call, cast
from runtime.otp.supervisor import ChildSpec, SupervisorRequest


@dataclass(frozen=True, slots=True)
class _Children:
    offset: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class _TryAgain:
    child: Child


class DynamicSupervisor(GenServer):
    """Start it with `DynamicSupervisor.start_link(name=...)`; the arguments are those of `init`."""

    kind: ClassVar[str] = "supervisor"

    def init(
        self,
        max_children: int | None = None,
        intensity: int = 3,
        period: float = 5,
        extra_arguments: Sequence[Any] = (),
    ) -> Any:
        """At most `max_children` at a time (None: no bound), `intensity` restarts within `period` seconds.

        `extra_arguments` come before the arguments of every child spec.
        """
        self._myRef.own_relations().trap_exit = True
        problem = check_flags(SupFlags(intensity=intensity, period=period))
        if max_children is not None and (not isinstance(max_children, int) or max_children < 0):
            problem = ("invalid_max_children", max_children)
        elif not isinstance(extra_arguments, list | tuple):
            problem = ("invalid_extra_arguments", extra_arguments)
        if problem is not None:
            return Stop(("supervisor_data", problem))
        self.max_children = max_children
        self.extra_arguments = tuple(extra_arguments)
        self.intensity = RestartIntensity(intensity, period)
        self.children: dict[Pid, Child] = {}  # in start order
        self.restarting: list[Child] = []  # a restart failed and will be tried again; known by the old pid
        return None

    @classmethod
    async def start_link(
        cls,
        max_children: int | None = None,
        intensity: int = 3,
        period: float = 5,
        extra_arguments: Sequence[Any] = (),
        *,
        name: Any = None,
        timeout: float | None = None,
    ) -> Pid | None:
        """`DynamicSupervisor.start_link/1`."""
        return await super().start_link(
            max_children, intensity, period, extra_arguments, name=name, timeout=timeout
        )

    async def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case SupervisorRequest("start_child", (spec,)):
                return Reply(await self._start_child(spec))
            case SupervisorRequest("terminate_child", (pid,)):
                return Reply(await self._terminate_child(pid))
            case _Children(offset, limit):
                # Only the page is built: with many thousands of children the whole list would hold the loop.
                rows = self._all()[offset : None if limit is None else offset + limit]
                return Reply([replace(child) for child in rows])
            case SupervisorRequest("children"):
                return Reply([replace(child) for child in self._all()])
            case SupervisorRequest("which_children"):
                return Reply([_row(child) for child in self._all()])
            case SupervisorRequest("count_children"):
                return Reply(self._count())
            case SupervisorRequest("get_childspec", (pid,)):
                child = self.children.get(pid) if isinstance(pid, Pid) else None
                return Reply(("error", "not_found") if child is None else ("ok", child.spec))
            case SupervisorRequest(
                "restart_child" | "delete_child"
            ):  # as of supervisor's own dynamic strategy
                return Reply(("error", "simple_one_for_one"))
        raise Error("function_clause")  # as Elixir's: what is none of its requests ends it

    def _count(self) -> dict[str, int]:
        rows = self._all()
        supervisors = sum(child.spec.type == "supervisor" for child in rows)
        return {
            "specs": len(rows),
            "active": len(self.children),
            "supervisors": supervisors,
            "workers": len(rows) - supervisors,
        }

    def _all(self) -> list[Child]:
        return [*self.children.values(), *self.restarting]

    async def _terminate_child(self, pid: Any) -> Any:
        for child in self.restarting:
            if isinstance(child.pid, Restarting) and child.pid.old is pid:
                self.restarting.remove(child)
                return "ok"
        child = self.children.pop(pid, None) if isinstance(pid, Pid) else None
        if child is None:
            return ("error", "not_found")
        await self._shut_down(child, pid)
        return "ok"

    async def _start(self, spec: ChildSpec) -> tuple[Any, ...]:
        return await start_child_process(spec, (*self.extra_arguments, *spec.start[1]), plain_errors=True)

    async def _start_child(self, spec: ChildSpec) -> tuple[Any, ...]:
        # Nothing is significant here: Elixir takes the key and makes no use of it.
        problem = check_childspec(spec, "never", significance=False)
        if problem is not None:
            return ("error", problem)
        if self.max_children is not None and len(self.children) + len(self.restarting) >= self.max_children:
            return ("error", "max_children")
        spec = complete(spec)
        result = await self._start(spec)
        if result[0] == "ok" and result[1] is not None:
            self.children[result[1]] = Child(spec, result[1])
        return result

    async def handle_info(self, message: Any) -> Any:
        match message:
            case ExitMessage(pid, reason):
                child = self.children.pop(pid, None)
                if child is not None:
                    return await self._child_ended(child, reason)
        return None

    async def _child_ended(self, child: Child, reason: Any) -> Any:
        again = child.spec.restarts_after(reason)
        if again or not is_shutdown(reason):
            reports.supervisor(self._myRef, "child_terminated", reason, child.spec.id, child.pid)
        if again:
            return await self._restart(child)
        return None

    async def _restart(self, child: Child) -> Any:
        if not self.intensity.add(self.now()):
            reports.supervisor(
                self._myRef, "shutdown", "reached_max_restart_intensity", child.spec.id, child.pid
            )
            return Stop("shutdown")
        child.restarts += 1
        status, value, *_ = await self._start(child.spec)
        if status == "error":
            reports.supervisor(self._myRef, "start_error", value, child.spec.id, child.pid)
            if not isinstance(child.pid, Restarting):
                child.pid = Restarting(child.pid)
            self.restarting.append(child)
            cast(self._myRef, _TryAgain(child))
        elif value is not None:
            child.pid = value
            self.children[value] = child
        return None

    async def handle_cast(self, request: Any) -> Any:
        match request:
            case _TryAgain(child) if child in self.restarting:
                self.restarting.remove(child)
                return await self._restart(child)
        return None

    async def _shut_down(self, child: Child, pid: Pid) -> None:
        reason = await shut_down(pid, child.spec.shutdown)
        if not is_shutdown(reason) and not is_atom(reason, "killed"):
            reports.supervisor(self._myRef, "shutdown_error", reason, child.spec.id, pid)

    async def terminate(self, reason: Any) -> None:
        await shut_down_all((pid, child.spec.shutdown) for pid, child in self.children.items())


def _row(child: Child) -> tuple[None, Any, str, tuple[Any, ...]]:
    pid = "restarting" if isinstance(child.pid, Restarting) else child.pid
    return (None, pid, child.spec.type, child.spec.modules)


async def start_child(sup: Dest, spec: ChildSpec, timeout: float | None = None) -> Any:
    """`DynamicSupervisor.start_child/2`: the pid, None if it ignored; `("ok", pid, info)` of a start function that gave this.

    Raises StartError: `"max_children"` or the child's reason.
    """
    result = await call(sup, SupervisorRequest("start_child", (spec,)), timeout)
    match result:
        case ("error", reason):
            raise StartError(reason)
        case (_, _, _):
            return result
    return result[1]


async def terminate_child(sup: Dest, pid: Pid) -> Any:
    """`DynamicSupervisor.terminate_child/2`: `"ok"` or `("error", "not_found")`."""
    return await call(sup, SupervisorRequest("terminate_child", (pid,)), None)


async def which_children(sup: Dest) -> list[tuple[None, Any, str, tuple[Any, ...]]]:
    """`DynamicSupervisor.which_children/1`: `(None, pid | "restarting", type, modules)` in start order."""
    return await call(sup, SupervisorRequest("which_children"), None)


async def children(sup: Dest, offset: int = 0, limit: int | None = None) -> list[Child]:
    """A page of the children with their restart counts, in start order."""
    return await call(sup, _Children(offset, limit), None)


async def count_children(sup: Dest) -> dict[str, int]:
    """`DynamicSupervisor.count_children/1`: specs, active, supervisors, workers."""
    return await call(sup, SupervisorRequest("count_children"), None)

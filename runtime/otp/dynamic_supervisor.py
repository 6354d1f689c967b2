"""Elixir's `DynamicSupervisor`: a supervisor for many children that are started on demand by `start_child`.

It owns its children, which are linked to it and known by pid, and handles their EXIT messages and the requests of the functions
below. Its strategy is one_for_one. When it ends it stops all children at the same time, each by its own `shutdown`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar

from runtime.core.exits import Error, is_atom, is_shutdown
from runtime.core.pid import Pid
from runtime.core.signals import ExitMessage
from runtime.otp.child_spec import (
    Child,
    SupFlags,
    check_childspec,
    check_flags,
    complete,
    shut_down,
    shut_down_all,
    start_child_process,
)
from runtime.otp.destination import Dest
from runtime.otp.gen_server import GenServer, Reply, StartError, Stop, call
from runtime.otp.restart import RestartPolicy, TryAgain
from runtime.otp.spec_errors import spec_error
from runtime.otp.stop_server import stop as stop
from runtime.otp.strategies import Row, row
from runtime.otp.supervisor import ChildSpec, SupervisorRequest, copies


def _problem(spec: Any) -> Any:
    """None if the child spec is valid, else the reason. Elixir accepts `significant` and ignores it."""
    return check_childspec(spec, "never", significance=False)


class ChildTemplate:
    """A child spec, checked once, of many children that differ in the arguments that `start_child` appends.

    Raises StartError if the spec is not valid; as of `start_child` it is a ValueError or TypeError too.
    """

    __slots__ = ("spec",)

    def __init__(self, spec: ChildSpec) -> None:
        problem = _problem(spec)
        if problem is not None:
            raise spec_error(StartError(problem), [spec])
        self.spec = complete(spec)


class DynamicSupervisor(GenServer):
    """The process. Start it with `DynamicSupervisor.start_link(name=...)`; the arguments are those of `init`."""

    kind: ClassVar[str] = "supervisor"

    def init(
        self,
        max_children: int | None = None,
        intensity: int = 3,
        period: float = 5,
        extra_arguments: Sequence[Any] = (),
    ) -> Any:
        """Allows `max_children` at a time (None: no limit) and `intensity` restarts within `period` seconds.

        `extra_arguments` are prepended to the arguments of every child spec.
        """
        self._myRef.own_relations().trap_exit = True
        problem = check_flags(SupFlags(intensity=intensity, period=period))
        if max_children is not None and (type(max_children) is not int or max_children < 0):
            problem = ("invalid_max_children", max_children)
        elif not isinstance(extra_arguments, list | tuple):
            problem = ("invalid_extra_arguments", extra_arguments)
        if problem is not None:
            return Stop(("supervisor_data", problem))
        self.max_children = max_children
        self.extra_arguments = tuple(extra_arguments)
        self.restarts = RestartPolicy(self, intensity, period)
        self.children: dict[Pid, Child] = {}  # in start order
        # Those whose restart has failed or waits for a backoff, by their last pid.
        self.restarting: dict[Pid, Child] = {}
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
        """`DynamicSupervisor.start_link/1`. Raises StartError; for an invalid option it is a ValueError or TypeError too."""
        try:
            return await super().start_link(
                max_children, intensity, period, extra_arguments, name=name, timeout=timeout
            )
        except StartError as error:
            raise spec_error(error) from None

    def handle_call(self, request: Any, from_: Any) -> Any:
        match request:
            case SupervisorRequest("start_child", (_, *_) as spec_and_args):
                return self._start_child(*spec_and_args)
            case SupervisorRequest("terminate_child", (pid,)):
                return self._terminate_child(pid)
            case SupervisorRequest("children", page):
                return Reply(copies(self._all(), *page))
            case SupervisorRequest("which_children"):
                return Reply([row(child, None) for child in self._all()])
            case SupervisorRequest("count_children"):
                return Reply(self._count())
            case SupervisorRequest("get_childspec", (pid,)):
                child = self.children.get(pid) if isinstance(pid, Pid) else None
                return Reply(("error", "not_found") if child is None else ("ok", child.spec))
            case SupervisorRequest("restart_child" | "delete_child"):
                # As OTP's supervisor answers for simple_one_for_one.
                return Reply(("error", "simple_one_for_one"))
        raise Error("function_clause")  # as in Elixir, an unknown request ends it

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
        return [*self.children.values(), *self.restarting.values()]

    async def _terminate_child(self, pid: Any) -> Any:
        if not isinstance(pid, Pid):
            return Reply(("error", "not_found"))
        if self.restarting.pop(pid, None) is not None:
            return Reply("ok")
        child = self.children.pop(pid, None)
        if child is None:
            return Reply(("error", "not_found"))
        await self._shut_down(child, pid)
        return Reply("ok")

    def _start(self, child: Child) -> Awaitable[tuple[Any, ...]]:
        self.restarts.starts(child)
        args = (*self.extra_arguments, *child.spec.start[1], *child.args)
        return start_child_process(child.spec, args, plain_errors=True)

    async def _start_child(self, spec: ChildSpec | ChildTemplate, *args: Any) -> Reply:
        if isinstance(spec, ChildTemplate):
            spec = spec.spec
        else:
            problem = _problem(spec)
            if problem is not None:
                return Reply(("error", problem))
            spec = complete(spec)
        if self.max_children is not None and len(self.children) + len(self.restarting) >= self.max_children:
            return Reply(("error", "max_children"))
        child = Child(spec, None, args)
        result = await self._start(child)
        if result[0] == "ok" and (pid := result[1]) is not None:
            child.pid = pid
            if spec.restart == "temporary":
                child.args = ()  # as in OTP: it is not started again, and its arguments may be large
            self.children[pid] = child
        return Reply(result)

    async def handle_info(self, message: Any) -> Any:
        match message:
            case ExitMessage(pid, reason):
                child = self.children.pop(pid, None)
                if child is not None and self.restarts.wants(child, reason):
                    if child.spec.backoff is None:
                        return await self._restart(child, pid)
                    self._try_again(child, pid)
            case TryAgain():  # after a backoff
                return await self.handle_cast(message)
        return None

    async def handle_cast(self, request: Any) -> Any:
        match request:
            case TryAgain(pid) if pid in self.restarting:
                return await self._restart(self.restarting.pop(pid), pid)
        return None

    async def _restart(self, child: Child, old: Pid) -> Any:
        if not self.restarts.allows(child):
            return Stop("shutdown")
        status, value, *_ = await self._start(child)
        if status == "error":
            self._try_again(child, old)
            self.restarts.report("start_error", value, child)
        elif value is not None:
            child.pid = value
            self.children[value] = child
        return None

    def _try_again(self, child: Child, old: Pid) -> None:
        child.set_restarting()
        self.restarting[old] = child
        self.restarts.try_again(child, old)

    async def _shut_down(self, child: Child, pid: Pid) -> None:
        reason = await shut_down(pid, child.spec.shutdown, linked=False)
        if not is_shutdown(reason) and not is_atom(reason, "killed"):
            self.restarts.report("shutdown_error", reason, child)

    async def terminate(self, reason: Any) -> None:
        await shut_down_all(
            ((pid, child.spec.shutdown) for pid, child in self.children.items()), linked=False
        )


async def start_child(
    sup: Dest, spec: ChildSpec | ChildTemplate, *args: Any, timeout: float | None = None
) -> Any:
    """`DynamicSupervisor.start_child/2`: returns the pid, None for ignore, or `("ok", pid, info)` if the start function did.

    `args` are appended to those of the spec, as a supervisor with simple_one_for_one does.

    Raises StartError: `"max_children"` or the child's reason. For an invalid spec it is a ValueError or TypeError too, and its
    message names the field.
    """
    result = await call(sup, SupervisorRequest("start_child", (spec, *args)), timeout)
    if result[0] == "error":
        raise spec_error(StartError(result[1]), [spec.spec if isinstance(spec, ChildTemplate) else spec])
    return result if len(result) == 3 else result[1]


async def terminate_child(sup: Dest, pid: Pid) -> Any:
    """`DynamicSupervisor.terminate_child/2`: `"ok"` or `("error", "not_found")`."""
    return await call(sup, SupervisorRequest("terminate_child", (pid,)), None)


async def which_children(sup: Dest) -> list[Row]:
    """`DynamicSupervisor.which_children/1`: `(None, pid | "restarting", type, modules)` in start order."""
    return await call(sup, SupervisorRequest("which_children"), None)


async def children(sup: Dest, offset: int = 0, limit: int | None = None) -> list[Child]:
    """A page of the children with their restart counts, in start order; of any supervisor."""
    return await call(sup, SupervisorRequest("children", (offset, limit)), None)


async def count_children(sup: Dest) -> dict[str, int]:
    """`DynamicSupervisor.count_children/1`: specs, active, supervisors, workers."""
    return await call(sup, SupervisorRequest("count_children"), None)

"""Restart strategies: the children of a supervisor, and which of them are restarted when one has ended.

The strategies of this module identify children by id and keep them in start order. For the fourth see
`runtime.otp.simple_one_for_one`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from itertools import dropwhile
from typing import Any, Final

from runtime.core import reports
from runtime.core.exits import is_atom, is_shutdown
from runtime.core.pid import Pid
from runtime.otp.child_spec import (
    Child,
    ChildSpec,
    Restarting,
    check_childspec,
    complete,
    hashable,
    shut_down,
    start_child_process,
)
from runtime.otp.exact_key import ExactDict
from runtime.otp.restart import RestartPolicy

# A row of which_children: id, pid or "restarting" or None, type, modules.
Row = tuple[Any, Any, str, tuple[Any, ...]]


class StartFailed(Exception):
    """A child has failed to start, which fails the start of the supervisor or a restart of several children."""

    def __init__(self, child: Child, reason: Any) -> None:
        super().__init__(child.spec.id, reason)
        self.child = child
        self.reason = reason


class Strategy(ABC):
    """The children of a supervisor under one strategy. Results are those of the functions of `supervisor`."""

    children: MutableMapping[Any, Child]  # in start order

    def __init__(self, restarts: RestartPolicy) -> None:
        self.restarts = restarts

    # ---- starting, stopping, restarting

    @abstractmethod
    async def start(self) -> None:
        """Starts the children from `init`, in order. Raises StartFailed, without stopping those that run."""

    @abstractmethod
    async def stop(self) -> None:
        """Stops all children, before the supervisor ends."""

    @abstractmethod
    async def restart(self, child: Child) -> None:
        """Restarts a child that has ended, and others as the strategy demands. A failed restart is retried later."""

    @abstractmethod
    def restart_later(self, child: Child) -> None:
        """Restarts a child after its backoff; until then it is listed as restarting."""

    @abstractmethod
    def forget(self, child: Child) -> None:
        """A child has ended and is not restarted."""

    @abstractmethod
    def restarting(self, key: Any) -> Child | None:
        """The child of a `TryAgain(key)`; None if it is not restarting any more."""

    @abstractmethod
    def any_significant(self) -> bool:
        """True if there are significant children that still run."""

    # ---- looking at children

    @abstractmethod
    def by_pid(self, pid: Pid) -> Child | None:
        """The child that runs as `pid`."""

    @abstractmethod
    def find(self, key: Any) -> Child | None:
        """The child with a key, as passed to the functions of `supervisor`."""

    @abstractmethod
    def which_children(self) -> list[Row]:
        """`supervisor:which_children/1`."""

    @abstractmethod
    def count_children(self) -> dict[str, int]:
        """`supervisor:count_children/1`."""

    # ---- requests

    @abstractmethod
    async def start_child(self, spec: Any) -> Any:
        """`supervisor:start_child/2`."""

    async def terminate_child(self, key: Any) -> Any:
        """`supervisor:terminate_child/2`."""
        child = self.find(key)
        if child is None:
            return ("error", "not_found")
        await self.stop_process(child)
        self.forget(child)
        return "ok"

    @abstractmethod
    async def restart_child(self, key: Any) -> Any:
        """`supervisor:restart_child/2`."""

    @abstractmethod
    def delete_child(self, key: Any) -> Any:
        """`supervisor:delete_child/2`."""

    # ---- shared

    async def start_process(self, child: Child) -> tuple[Any, ...]:
        """Calls the child's start function. Result as of `start_child_process`."""
        self.restarts.starts(child)
        result = await start_child_process(child.spec, child.args or child.spec.start[1])
        if result[0] == "ok":
            reports.progress(self.restarts.cell, child.spec.id, result[1])
        return result

    async def stop_process(self, child: Child) -> None:
        """Stops a child by its `shutdown`, if it is running."""
        if not isinstance(child.pid, Pid):
            return
        reason = await shut_down(child.pid, child.spec.shutdown)
        expected = "killed" if child.spec.shutdown == "brutal_kill" else "shutdown"
        if is_atom(reason, expected) or (is_shutdown(reason) and child.spec.restart != "permanent"):
            return
        self.restarts.report("shutdown_error", reason, child)


def row(child: Child, child_id: Any) -> Row:
    """The row of a child in which_children."""
    pid = "restarting" if isinstance(child.pid, Restarting) else child.pid
    return (child_id, pid, child.spec.type, child.spec.modules)


class _InOrder(Strategy):
    """Children identified by id, started in order and stopped in reverse order."""

    def __init__(self, restarts: RestartPolicy, specs: Sequence[ChildSpec], auto_shutdown: str) -> None:
        super().__init__(restarts)
        self.auto_shutdown = auto_shutdown
        self.children = ExactDict()
        for spec in specs:
            self.children[spec.id] = Child(spec)

    @abstractmethod
    def together(self, ended: Child) -> Collection[Child]:
        """The children to be stopped and restarted together; empty if only `ended` itself is restarted."""

    async def start(self) -> None:
        await self._start_all(list(self.children))

    async def stop(self) -> None:
        await self._stop_all(list(self.children))

    async def _start_all(self, ids: list[Any]) -> None:
        for child_id in ids:
            child = self.children[child_id]
            status, value, *_ = await self.start_process(child)
            if status == "error":
                self.restarts.report("start_error", value, child)
                raise StartFailed(child, value)
            if value is None and child.spec.restart == "temporary":
                del self.children[child_id]
            else:
                child.pid = value

    async def _stop_all(self, ids: list[Any]) -> None:
        """Stops children, the last first, and removes temporary ones."""
        for child_id in reversed(ids):
            child = self.children[child_id]
            await self.stop_process(child)
            child.pid = None
            if child.spec.restart == "temporary":
                del self.children[child_id]

    async def restart(self, child: Child) -> None:
        together = self.together(child)
        if together:
            await self._restart_all(child, [one.spec.id for one in together])
            return
        status, value, *_ = await self.start_process(child)
        if status == "ok":
            child.pid = value
        else:
            child.set_restarting()
            self.restarts.report("start_error", value, child)
            self.restarts.try_again(child, child.spec.id)

    async def _restart_all(self, child: Child, ids: list[Any]) -> None:
        failed = child.pid
        child.pid = None
        await self._stop_all(ids)
        try:
            await self._start_all([child_id for child_id in ids if child_id in self.children])
        except StartFailed as failure:
            failure.child.pid = failed if failure.child is child else None
            failure.child.set_restarting()
            self.restarts.try_again(failure.child, failure.child.spec.id)

    def restart_later(self, child: Child) -> None:
        child.set_restarting()
        self.restarts.try_again(child, child.spec.id)

    def forget(self, child: Child) -> None:
        """Removes a temporary child; the spec of another one stays."""
        if child.spec.restart == "temporary":
            self.children.pop(child.spec.id, None)
        else:
            child.pid = None

    def restarting(self, key: Any) -> Child | None:
        child = self.children.get(key)
        return child if child is not None and isinstance(child.pid, Restarting) else None

    def any_significant(self) -> bool:
        return any(child.spec.significant and child.pid is not None for child in self.children.values())

    def by_pid(self, pid: Pid) -> Child | None:
        for child in self.children.values():
            if child.pid is pid:
                return child
        return None

    def find(self, key: Any) -> Child | None:
        return self.children.get(key) if hashable(key) else None

    def which_children(self) -> list[Row]:
        """In reverse start order, as in OTP."""
        return [row(child, child.spec.id) for child in reversed(list(self.children.values()))]

    def count_children(self) -> dict[str, int]:
        children = self.children.values()
        supervisors = sum(child.spec.type == "supervisor" for child in children)
        return {
            "specs": len(children),
            "active": sum(child.alive for child in children),
            "supervisors": supervisors,
            "workers": len(children) - supervisors,
        }

    async def start_child(self, spec: Any) -> Any:
        problem = check_childspec(spec, self.auto_shutdown)
        if problem is not None:
            return ("error", problem)
        spec = complete(spec)
        old = self.children.get(spec.id)
        if old is not None:
            return ("error", ("already_started", old.pid) if isinstance(old.pid, Pid) else "already_present")
        child = Child(spec)
        result = await self.start_process(child)
        status, value, *_ = result
        if status == "error":
            return ("error", (value, child))
        if value is not None or spec.restart != "temporary":
            child.pid = value
            self.children[spec.id] = child
        return result

    async def restart_child(self, key: Any) -> Any:
        problem = self._not_stopped(key)
        if problem is not None:
            return ("error", problem)
        child = self.children[key]
        result = await self.start_process(child)
        if result[0] == "ok":
            child.pid = result[1]
            child.restarts += 1
        return result

    def delete_child(self, key: Any) -> Any:
        problem = self._not_stopped(key)
        if problem is not None:
            return ("error", problem)
        del self.children[key]
        return "ok"

    def _not_stopped(self, key: Any) -> str | None:
        child = self.find(key)
        if child is None:
            return "not_found"
        if child.pid is None:
            return None
        return "restarting" if isinstance(child.pid, Restarting) else "running"


class OneForOne(_InOrder):
    """Restarts the child that has ended."""

    def together(self, ended: Child) -> Collection[Child]:
        return ()


class OneForAll(_InOrder):
    """Restarts all children."""

    def together(self, ended: Child) -> Collection[Child]:
        return self.children.values()


class RestForOne(_InOrder):
    """Restarts the child that has ended and those started after it."""

    def together(self, ended: Child) -> Collection[Child]:
        return list(dropwhile(lambda child: child is not ended, self.children.values()))


IN_ORDER: Final[Mapping[str, type[_InOrder]]] = {
    "one_for_one": OneForOne,
    "one_for_all": OneForAll,
    "rest_for_one": RestForOne,
}

"""The strategy simple_one_for_one: instances of one child spec, known by pid, started by `start_child`.

For children with different specs see `DynamicSupervisor`.
"""

from __future__ import annotations

from typing import Any

from runtime.core.exits import Stack, error
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.otp.child_spec import Child, ChildSpec, Restarting, shut_down_all
from runtime.otp.restart import RestartPolicy
from runtime.otp.strategies import Row, Strategy, row


class SimpleOneForOne(Strategy):
    """All children have the one spec that `init` returned, and are restarted one by one."""

    def __init__(self, restarts: RestartPolicy, template: ChildSpec) -> None:
        super().__init__(restarts)
        self.template = template
        self.children = {}  # by `id` of the pid, or of the Restarting in its place
        self.restarts_to_come = 0  # as in OTP, a terminate_child during the retries does not decrement it

    async def start(self) -> None:
        """Does nothing: there are no children yet."""

    async def stop(self) -> None:
        """Stops all at the same time, as there may be many."""
        if id(None) in self.children:
            error("function_clause")  # OTP 25 cannot stop a child that ignored its restart
        shutdown = self.template.shutdown
        await shut_down_all(
            (child.pid, shutdown) for child in self.children.values() if isinstance(child.pid, Pid)
        )

    async def restart(self, child: Child) -> None:
        if isinstance(child.pid, Restarting):
            self.restarts_to_come -= 1
        self.forget(child)
        status, value, *_ = await self.start_process(child)
        if status == "ok":
            # As in OTP a child that ignores its restart stays listed as undefined; another one replaces it.
            child.pid = value
            self.children[id(value)] = child
        else:
            self._add_restarting(child)
            self.restarts.report("start_error", value, child)
            self.restarts.try_again(child, child.pid)

    def restart_later(self, child: Child) -> None:
        self.forget(child)
        self._add_restarting(child)
        self.restarts.try_again(child, child.pid)

    def _add_restarting(self, child: Child) -> None:
        child.set_restarting()
        self.children[id(child.pid)] = child
        self.restarts_to_come += 1

    def forget(self, child: Child) -> None:
        self.children.pop(id(child.pid), None)

    def restarting(self, key: Any) -> Child | None:
        """The key is the `Restarting` of the child."""
        child = self.children.get(id(key))
        return child if child is not None and isinstance(child.pid, Restarting) else None

    def any_significant(self) -> bool:
        """True if there are children: called only if the template is significant."""
        return bool(self.children)

    def by_pid(self, pid: Pid) -> Child | None:
        return self.children.get(id(pid))

    def find(self, key: Any) -> Child | None:
        """Finds a child by pid, also by the last pid of a restarting one.

        For the template's id and for a dead pid it returns a child that is not running.
        """
        if not isinstance(key, Pid):
            return Child(self.template) if key == self.template.id else None
        child = self.children.get(id(key))
        if child is None:
            for candidate in self.children.values():
                if isinstance(candidate.pid, Restarting) and candidate.pid.old is key:
                    return candidate
            if key.cell.execution.mode == DEAD:
                return Child(self.template)
        return child

    def which_children(self) -> list[Row]:
        return [row(child, None) for child in self.children.values()]

    def count_children(self) -> dict[str, int]:
        size = len(self.children)
        supervisors = size if self.template.type == "supervisor" else 0
        active = size - self.restarts_to_come
        return {"specs": 1, "active": active, "supervisors": supervisors, "workers": size - supervisors}

    async def start_child(self, spec: Any) -> Any:
        """`spec` is a list of arguments, appended to those of the template."""
        if not isinstance(spec, list | tuple):  # as in OTP, which appends the lists
            return ("error", ("EXIT", ("badarg", Stack(None))))
        child = Child(self.template, args=(*self.template.start[1], *spec))
        result = await self.start_process(child)
        status, value, *_ = result
        if status == "ok" and value is not None:
            child.pid = value
            self.children[id(value)] = child
        return result

    async def terminate_child(self, key: Any) -> Any:
        if not isinstance(key, Pid):
            return ("error", "simple_one_for_one")
        return await super().terminate_child(key)

    async def restart_child(self, key: Any) -> Any:
        """An error: a child that has ended is not kept."""
        return ("error", "simple_one_for_one")

    def delete_child(self, key: Any) -> Any:
        return ("error", "simple_one_for_one")

"""`erlang:group_leader/0,2`: which group a process belongs to. It is inherited by all that the process starts from then on.

It names a group, an application's processes or those of a test, and nothing more: output is `logging`'s, and there is no I/O
protocol between processes. So a process that nobody has put into a group has none.
"""

from __future__ import annotations

from typing import Any, Literal

from runtime.core.exits import Error
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import scheduler


def group_leader_of(cell: Cell) -> Pid | None:
    """The leader of a living process's group, if it is in one."""
    rare = cell.relations.rare
    return None if rare is None else rare.group_leader


def group_leader(leader: Pid | None = None, pid: Any = None) -> Any:
    """`erlang:group_leader/0,2`: the caller's leader, None without a group.

    `group_leader(leader, pid)`: True, and `pid` is in that group from now on.
    Raises Error("badarg") for what is no pid, or a `pid` that is dead or of another node.
    """
    if leader is None and pid is None:
        if scheduler.current is None:
            raise RuntimeError("this works only inside a process")
        return group_leader_of(scheduler.current)
    if not isinstance(leader, Pid) or not isinstance(pid, Cell) or pid.execution.mode == DEAD:
        raise Error("badarg")
    pid.own_rare().group_leader = leader
    done: Literal[True] = True
    return done

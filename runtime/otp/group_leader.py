"""`erlang:group_leader/0,2`: the group of a process, inherited by the processes that it spawns.

It only identifies a group, such as the processes of an application or of a test. Output goes through `logging`; there is no I/O
protocol. So a process has no group leader until one is set for it or an ancestor.
"""

from __future__ import annotations

from typing import Any, Literal

from runtime.core.exits import Error
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.scheduling import current_process


def group_leader_of(cell: Cell) -> Pid | None:
    """The group leader of a living process, if it has one."""
    rare = cell.relations.rare
    return None if rare is None else rare.group_leader


def group_leader(leader: Pid | None = None, pid: Any = None) -> Any:
    """`erlang:group_leader/0,2`: returns the caller's group leader, None if it has none.

    `group_leader(leader, pid)` sets that of `pid` and returns True. Raises Error("badarg") if one of them is not a pid, or `pid`
    is dead or of another node.
    """
    if leader is None and pid is None:
        return group_leader_of(current_process())
    if not isinstance(leader, Pid) or not isinstance(pid, Cell) or pid.execution.mode == DEAD:
        raise Error("badarg")
    pid.own_rare().group_leader = leader
    done: Literal[True] = True
    return done

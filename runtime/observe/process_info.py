"""Facts about a process, for metrics, logs and operators. No function sends a message or waits."""

from __future__ import annotations

from typing import Any

from runtime.core import modes
from runtime.core.engine import Engine, current_engine
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.core.process import Cell
from runtime.core.reports import module_of
from runtime.core.scheduling import scheduler
from runtime.observe import term


def pid_text(pid: Pid) -> str:
    """The URL-safe form of a pid: `0.17.0`."""
    return f"0.{pid.id}.0"


def parse_pid(text: str, engine: Engine | None = None) -> Pid | None:
    """Resolves `0.17.0`, `<0.17.0>` or a registered name to a living process, or None."""
    engine = engine or current_engine()
    parts = text.strip("<>").split(".")
    if len(parts) == 3 and parts[0] == parts[2] == "0" and parts[1].isascii() and parts[1].isdigit():
        cell = engine.table.get(int(parts[1])) if len(parts[1]) < 19 else None
    else:
        cell = engine.names.get(text)
    return cell


def running() -> Pid | None:
    """The running process; None outside of processes."""
    return scheduler.current


def name(pid: Pid) -> str | None:
    """Its registered name."""
    return pid.cell.relations.name


def mailbox(pid: Pid) -> int:
    """The number of messages in its mailbox."""
    return len(pid.cell.execution.mailbox or ())


def reductions(pid: Pid) -> int:
    """The number of messages that it has handled."""
    return pid.cell.reductions


def behaviour(pid: Pid) -> type | None:
    """The class of its actor; None once it is dead."""
    actor = pid.cell.actor
    return None if actor is None else type(actor)


def module(pid: Pid) -> str:
    """`module:Class` of its actor, or `module:function` of a plain process."""
    return module_of(pid.cell.actor)


def peek(pid: Pid, attribute: str) -> Any:
    """The current value of an attribute of its actor; None if there is no such attribute."""
    return getattr(pid.cell.actor, attribute, None)


def attributes(pid: Pid) -> dict[str, Any]:
    """The current attributes of its actor, unmasked: for checks, not for display."""
    return term.attributes(pid.cell.actor) or {}


def label(pid: Pid) -> str | None:
    """The registered name of a process, else its label (as of `proc_lib:set_label/1`: the actor's attribute `label`)."""
    cell = pid.cell
    if cell.relations.name is not None:
        return cell.relations.name
    own = getattr(cell.actor, "label", None)
    return own if isinstance(own, str) else None


def status(cell: Cell) -> str:
    """`process_info`'s status of a living process."""
    return modes.status(cell.execution)


def named(pid: Pid) -> dict[str, Any]:
    """A pid with its name, if any."""
    return {"pid": pid_text(pid), "name": None if pid.cell.execution.mode == DEAD else label(pid.cell)}

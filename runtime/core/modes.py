"""The six modes of a process's execution state, and the status that observers see.

docs/architecture.md has a diagram of the transitions. `runtime.core.process` sets the mode, `runtime.core.exit_signals` DEAD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NewType

if TYPE_CHECKING:
    from runtime.core.control_block import ExecutionState

# An int, not an Enum: modes are compared several times for each message, and comparing Enums takes twice as long.
Mode = NewType("Mode", int)

# A message makes a process runnable in the first two only.
IDLE: Final = Mode(0)  # between messages
RECEIVING: Final = Mode(1)  # its coroutine waits in a selective receive
BLOCKED: Final = Mode(2)  # its coroutine waits for something else
NEW: Final = Mode(3)  # has not run yet
RUNNING: Final = Mode(4)
DEAD: Final = Mode(5)

_STATUS: Final = {
    IDLE: "waiting",
    RECEIVING: "waiting",
    BLOCKED: "waiting",
    NEW: "runnable",
    RUNNING: "running",
    DEAD: "exiting",
}


def status(execution: ExecutionState) -> str:
    """`process_info`'s status: suspended, running, runnable, waiting or exiting."""
    if execution.suspended:
        return "suspended"
    if execution.queued and execution.mode != RUNNING:
        return "runnable"
    return _STATUS[execution.mode]

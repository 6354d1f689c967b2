"""Destinations of requests: a pid, a registered name, `(name, node)`, `("via", registry, key)` or `("global", name)`.

`resolve` finds the process; `not_there` and `lost` give the reason of a request whose destination does not run.
"""

from __future__ import annotations

from typing import Any

from runtime.core.bad_argument import bad_argument
from runtime.core.engine import current_engine
from runtime.core.exits import is_atom
from runtime.core.pid import Pid
from runtime.core.process import Cell

Dest = Any


def whereis(dest: Dest) -> Pid | None:
    """Elixir's `GenServer.whereis/1`: the pid of a destination (see `call`), None if there is no such process."""
    cell = resolve(dest)
    return None if cell is None else cell.pid


def resolve(dest: Dest) -> Cell | None:
    """Resolves a destination: a pid, a registered name, `(name, node)`, `("via", registry, key)` or `("global", name)`.

    None if there is no such process, also for None itself, the result of `whereis` for a free name. Raises Error("badarg") for
    anything else.
    """
    if type(dest) is str:
        return current_engine().names.get(dest)
    if isinstance(dest, Pid):
        return dest.cell
    if isinstance(dest, tuple):
        match dest:
            case ("via", registry, key):
                return _named_by(registry, key, dest)
            case ("global", str(name)):
                node = current_engine().node
                return None if node is None else node.whereis_global(name)
            case (str(name), str(node)):
                return current_engine().destination(name, node)
    if dest is not None and not isinstance(dest, str):
        expected = 'a pid, a registered name, (name, node), ("via", registry, key) or ("global", name)'
        raise bad_argument("dest", expected, dest, tuple)
    return current_engine().names.get(dest)  # type: ignore[arg-type]


def _named_by(registry: Any, key: Any, dest: Dest) -> Cell | None:
    whereis_name = getattr(registry, "whereis_name", None)
    pid = whereis_name(key) if callable(whereis_name) else whereis_name
    if pid is None and whereis_name is not None:
        return None
    if not isinstance(pid, Pid):
        raise bad_argument("dest", "a registry whose whereis_name gives a pid or None", dest, tuple)
    return pid.cell


def not_there(dest: Dest, cell: Cell | None, timeout: float | None) -> Any:
    """Why a request to `dest`, which resolves to None or to a dead process, fails.

    With timeout 0 the DOWN of a dead process comes too late, as in OTP; a free name is known at once. A node that is not
    distributed knows no other.
    """
    if cell is not None:
        return "timeout" if timeout is not None and timeout <= 0 else "noproc"
    match dest:
        case (name, node) if name != "global" and node != current_engine().node_name:
            return ("nodedown", node)
    return "noproc"


def lost(target: Any, reason: Any) -> Any:
    """The reason with which a call to an ended server fails: as in `gen:call`, "noconnection" becomes `{nodedown, Node}`."""
    if is_atom(reason, "noconnection"):
        return ("nodedown", (target.engine if isinstance(target, Cell) else target).node_name)
    return reason

"""Elixir's `PartitionSupervisor`: several instances of one child, and a route from a key to the instance that serves it.

    spec = ChildSpec("writer", (Writer.start_link, ()))
    await PartitionSupervisor.start_link(spec, partitions=4, name="writers")
    await call(via("writers", user_id), Write(...))    # always the same writer for the same user

It is a one_for_one Supervisor whose child ids are 0 to partitions - 1: it owns these, takes the requests of `supervisor`'s
functions, and when it crashes its partitions end with it. A key is routed by the caller, without a message to it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from runtime.core.exits import CallSite, Error, Exit
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.otp.destination import Dest, resolve
from runtime.otp.supervisor import ChildSpec, Supervisor, SupFlags, restart_child, terminate_child

_FLAGS: Final = SupFlags(intensity=3)


class PartitionSupervisor(Supervisor):
    """The process. Start it with `start_link(spec, partitions=..., name=...)`."""

    kind: ClassVar[str] = "supervisor"

    def init(
        self,
        spec: ChildSpec,
        partitions: int | None = None,
        with_arguments: Callable[[tuple[Any, ...], int], tuple[Any, ...]] | None = None,
        flags: SupFlags = _FLAGS,
    ) -> Any:
        """Starts `partitions` children of `spec`, by default one for each CPU.

        `with_arguments(args, partition)` returns the arguments of a partition; by default all have the same.
        """
        count = (os.cpu_count() or 1) if partitions is None else partitions
        if type(count) is not int or count < 1:
            raise Error(("invalid_partitions", partitions))
        self.partitions = self.started = count
        fn, args = spec.start
        make = with_arguments or (lambda args, _partition: args)
        return flags, [replace(spec, id=number, start=(fn, make(args, number))) for number in range(count)]

    @classmethod
    async def start_link(
        cls,
        spec: ChildSpec,
        partitions: int | None = None,
        with_arguments: Callable[[tuple[Any, ...], int], tuple[Any, ...]] | None = None,
        *,
        name: Any = None,
        timeout: float | None = None,
        intensity: int = 3,
        period: float = 5,
    ) -> Pid | None:
        """`PartitionSupervisor.start_link/1`; intensity and period as of SupFlags. Raises StartError."""
        flags = SupFlags(intensity=intensity, period=period)
        return await super().start_link(spec, partitions, with_arguments, flags, name=name, timeout=timeout)


def partition_of(key: Any, partitions: int) -> int:
    """The partition that serves a key: an integer modulo the number of partitions, anything else by a stable hash."""
    if isinstance(key, int) and not isinstance(key, bool):
        return abs(key) % partitions
    return zlib.crc32(repr(key).encode()) % partitions


class _Router:
    """The registry of `via`; its keys are `(supervisor, key)`."""

    @staticmethod
    def whereis_name(name: tuple[Dest, Any]) -> Pid | None:
        """The process that serves the key; None if it is not running. Reads the supervisor's state without a message.

        Raises as `partitions` if the supervisor does not run.
        """
        sup, key = name
        actor = _running(sup)
        child = actor.strategy.find(partition_of(key, actor.partitions))
        return child.pid if child is not None and isinstance(child.pid, Pid) else None


def via(sup: Dest, key: Any) -> tuple[str, Any, Any]:
    """`{:via, PartitionSupervisor, {sup, key}}`: a destination for call, cast and stop.

    If the supervisor does not run, whatever resolves it raises as `partitions` does, but for cast, which is silent.
    """
    return ("via", _Router, (sup, key))


async def resize(sup: Dest, partitions: int) -> int:
    """`PartitionSupervisor.resize!/2` (Elixir 1.18): sets the number of partitions and returns the former number.

    It can be at most the number at the start; surplus partitions are stopped, and restarted when the number grows again.
    Raises ValueError for any other number, and as `partitions` if the supervisor does not run.
    """
    actor = _running(sup)
    if (
        not isinstance(partitions, int)
        or isinstance(partitions, bool)
        or not 1 <= partitions <= actor.started
    ):
        raise ValueError(f"partitions: expected 1 to {actor.started}, got {partitions!r}")
    before = actor.partitions
    # Keys are routed to the remaining partitions before the others are stopped.
    actor.partitions = min(before, partitions)
    for number in range(partitions, before):
        await terminate_child(sup, number)
    for number in range(before, partitions):
        await restart_child(sup, number)
    actor.partitions = partitions
    return before


def partitions(sup: Dest) -> int:
    """`PartitionSupervisor.partitions/1`. Raises Exit(("noproc", CallSite)) if it does not run."""
    return _running(sup).partitions


def _running(sup: Dest) -> PartitionSupervisor:
    cell = resolve(sup)
    if cell is None or cell.execution.mode == DEAD or not isinstance(cell.actor, PartitionSupervisor):
        raise Exit(("noproc", CallSite("PartitionSupervisor", "partitions", (sup,))))
    return cell.actor

"""Elixir's `PartitionSupervisor`: the same child several times, and a way to the one that serves a key.

    spec = ChildSpec("writer", (Writer.start_link, ()))
    await PartitionSupervisor.start_link(spec, partitions=4, name="writers")
    await call(via("writers", user_id), Write(...))    # always the same writer for the same user

It is a Supervisor (one_for_one) whose child ids are 0 to partitions - 1; that module's functions work on it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Final

from runtime.core.exits import Error, Exit
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.otp import gen_server
from runtime.otp.gen import Dest
from runtime.otp.supervisor import ChildSpec, Supervisor, SupFlags, restart_child, terminate_child

_FLAGS: Final = SupFlags(intensity=3)


class PartitionSupervisor(Supervisor):
    """Start it with `start_link(spec, partitions=..., name=...)`."""

    kind: ClassVar[str] = "supervisor"

    def init(
        self,
        spec: ChildSpec,
        partitions: int | None = None,
        with_arguments: Callable[[tuple[Any, ...], int], tuple[Any, ...]] | None = None,
        flags: SupFlags = _FLAGS,
    ) -> Any:
        """`partitions` children of `spec` (by default one for each CPU).

        `with_arguments(args, partition)` gives the arguments of each; by default all get the same.
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
        """`PartitionSupervisor.start_link/1`: intensity and period as of Supervisor. Raises StartError."""
        flags = SupFlags(intensity=intensity, period=period)
        return await super().start_link(spec, partitions, with_arguments, flags, name=name, timeout=timeout)


def partition_of(key: Any, partitions: int) -> int:
    """Which partition serves a key: integers modulo the number, all else by a hash that is the same in every run."""
    if isinstance(key, int):
        return abs(key) % partitions
    return zlib.crc32(repr(key).encode()) % partitions


class _Router:
    """The registry behind `via`: its keys are `(supervisor, key)`."""

    @staticmethod
    def whereis_name(name: tuple[Dest, Any]) -> Pid | None:
        """The process that serves the key now; None if it does not run. Read at once, without a message."""
        cell = gen_server.resolve(name[0])
        if cell is None or cell.execution.mode == DEAD or not isinstance(cell.actor, PartitionSupervisor):
            return None
        child = cell.actor.strategy.find(partition_of(name[1], cell.actor.partitions))
        return child.pid if child is not None and isinstance(child.pid, Pid) else None


def via(sup: Dest, key: Any) -> tuple[str, Any, Any]:
    """`{:via, PartitionSupervisor, {sup, key}}`: a destination for call, cast and stop."""
    return ("via", _Router, (sup, key))


async def resize(sup: Dest, partitions: int) -> int:
    """`PartitionSupervisor.resize!/2` (Elixir 1.18): that many partitions serve from now on; gives the former number.

    At most as many as there were at the start. Those that are one too many are stopped; they start again when it grows.
    Raises ValueError for any other number.
    """
    cell = gen_server.resolve(sup)
    if cell is None or cell.execution.mode == DEAD or not isinstance(cell.actor, PartitionSupervisor):
        raise Exit("noproc")
    actor = cell.actor
    if (
        not isinstance(partitions, int)
        or isinstance(partitions, bool)
        or not 1 <= partitions <= actor.started
    ):
        raise ValueError(f"partitions: expected 1 to {actor.started}, got {partitions!r}")
    before = actor.partitions
    actor.partitions = min(
        before, partitions
    )  # first the way to them, then they: nobody is sent to one that ends
    for number in range(partitions, before):
        await terminate_child(sup, number)
    for number in range(before, partitions):
        await restart_child(sup, number)
    actor.partitions = partitions
    return before


def partitions(sup: Dest) -> int:
    """`PartitionSupervisor.partitions/1`. Raises Exit("noproc") if it does not run."""
    cell = gen_server.resolve(sup)
    if cell is None or cell.execution.mode == DEAD or not isinstance(cell.actor, PartitionSupervisor):
        raise Exit("noproc")
    return cell.actor.partitions

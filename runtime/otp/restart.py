"""Restarts as all supervisors do them: which ends ask for one, how many are too many, and the second attempt when one fails.

A restart that failed, or waits for its backoff, is tried again by a message of the supervisor to itself (`TryAgain`); until
then the child's pid is a `Restarting`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from runtime.core import reports
from runtime.core.exits import is_shutdown
from runtime.otp.backoff import Delays
from runtime.otp.child_spec import Child
from runtime.otp.erlang import send_after
from runtime.otp.gen_server import GenServer, cast


@dataclass(frozen=True, slots=True)
class TryAgain:
    """`{try_again_restart, Id}`: the restart of the child that its supervisor knows by this key is due."""

    key: Any


class RestartIntensity:
    """`intensity` restarts within `period` seconds are allowed."""

    __slots__ = ("intensity", "period", "restarts")

    def __init__(self, intensity: int, period: float) -> None:
        self.intensity = intensity
        self.period = period
        self.restarts: deque[float] = deque()  # those of the period, oldest first

    def add(self, now: float) -> bool:
        """Counts a restart at `now` (seconds); False if it is one too many."""
        restarts, begin = self.restarts, now - self.period
        while restarts and restarts[0] < begin:
            restarts.popleft()
        restarts.append(now)
        return len(restarts) <= self.intensity


class RestartPolicy:
    """The restarts of one supervisor, and its reports of them."""

    __slots__ = ("cell", "intensity", "supervisor")

    def __init__(self, supervisor: GenServer, intensity: int, period: float) -> None:
        self.supervisor = supervisor
        self.cell = supervisor.pid.cell
        self.intensity = RestartIntensity(intensity, period)

    def wants(self, child: Child, reason: Any) -> bool:
        """True if a child that has ended with `reason` is to be started again."""
        again = child.spec.restarts_after(reason)
        if again or not is_shutdown(reason):
            self.report("child_terminated", reason, child)
        return again

    def allows(self, child: Child) -> bool:
        """Counts one restart of the child; False if the supervisor has to give up, with reason `shutdown`.

        The delays of a backoff bound the restarts already: those are not counted.
        """
        if child.spec.backoff is None and not self.intensity.add(self.supervisor.now()):
            self.report("shutdown", "reached_max_restart_intensity", child)
            return False
        child.restarts += 1
        return True

    def starts(self, child: Child) -> None:
        """The child is started now: the moment from which a backoff counts its life."""
        if child.spec.backoff is not None:
            child.delays = child.delays or Delays()
            child.delays.started = self.supervisor.now()

    def try_again(self, child: Child, key: Any) -> None:
        """Sends the supervisor the `TryAgain` of a child that is restarting: at once, or after its backoff."""
        if child.spec.backoff is None or child.delays is None:
            cast(self.supervisor.pid, TryAgain(key))
        else:
            delay = child.delays.next(child.spec.backoff, self.supervisor.now())
            send_after(delay, self.supervisor.pid, TryAgain(key))

    def report(self, error: str, reason: Any, child: Child) -> None:
        """SASL's supervisor report."""
        reports.supervisor(self.cell, error, reason, child.spec.id, child.pid)

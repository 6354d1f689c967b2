"""The restart policy of all supervisors: when a child is restarted, restart intensity, and retries of failed restarts.

A failed restart is retried, and one with a backoff is run, by a message from the supervisor to itself (`TryAgain`); until then
the child's pid is a `Restarting`.
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
    """`{try_again_restart, Id}`: the restart of the child with this key is due."""

    key: Any


class RestartIntensity:
    """Allows `intensity` restarts within `period` seconds."""

    __slots__ = ("intensity", "period", "restarts")

    def __init__(self, intensity: int, period: float) -> None:
        self.intensity = intensity
        self.period = period
        self.restarts: deque[float] = deque()  # the times of those within the period

    def add(self, now: float) -> bool:
        """Counts a restart at `now` (seconds); False if there are too many."""
        restarts, begin = self.restarts, now - self.period
        while restarts and restarts[0] < begin:
            restarts.popleft()
        restarts.append(now)
        return len(restarts) <= self.intensity


class RestartPolicy:
    """The restarts of one supervisor, with their reports."""

    __slots__ = ("cell", "intensity", "supervisor")

    def __init__(self, supervisor: GenServer, intensity: int, period: float) -> None:
        self.supervisor = supervisor
        self.cell = supervisor.pid.cell
        self.intensity = RestartIntensity(intensity, period)

    def wants(self, child: Child, reason: Any) -> bool:
        """True if a child that has ended with `reason` is to be restarted. Reports its end."""
        again = child.spec.restarts_after(reason)
        if again or not is_shutdown(reason):
            self.report("child_terminated", reason, child)
        return again

    def allows(self, child: Child) -> bool:
        """Counts a restart of the child; False if the supervisor has to end with reason "shutdown".

        Restarts with a backoff do not count against the intensity, as their delays bound the rate.
        """
        if child.spec.backoff is None and not self.intensity.add(self.supervisor.now()):
            self.report("shutdown", "reached_max_restart_intensity", child)
            return False
        child.restarts += 1
        return True

    def starts(self, child: Child) -> None:
        """The child is being started: its uptime, which resets a backoff, counts from now."""
        if child.spec.backoff is not None:
            child.delays = child.delays or Delays()
            child.delays.started = self.supervisor.now()

    def try_again(self, child: Child, key: Any) -> None:
        """Sends the supervisor a `TryAgain` for a restarting child, at once or after its backoff."""
        if child.spec.backoff is None or child.delays is None:
            cast(self.supervisor.pid, TryAgain(key))
        else:
            delay = child.delays.next(child.spec.backoff, self.supervisor.now())
            send_after(delay, self.supervisor.pid, TryAgain(key))

    def report(self, error: str, reason: Any, child: Child) -> None:
        """Emits a supervisor report."""
        reports.supervisor(self.cell, error, reason, child.spec.id, child.pid)

"""The circuit breaker of one Go service: lets calls pass while the service answers, and refuses them while it does not.

It owns nothing but its state. Calls: `Permit` before each attempt, `GetState`. Casts: `AttemptSucceeded` or `AttemptFailed` after
each attempt. `closed` lets all attempts pass; after `failures` failures in a row it is `open` and refuses them; after `reset` ms
it is `half_open` and lets one trial pass, whose success closes it and whose failure opens it for twice as long, up to `longest`.
If it crashes it starts closed: at worst a few calls find out again that the service is down.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import Any

from runtime import (
    CallRequest,
    InitialState,
    KeepState,
    NextState,
    ReplyAction,
    StateMachine,
    StateTimeout,
    telemetry,
)

TRANSITION = ("bridge", "breaker")
log = logging.getLogger("bitnexus.bridges")


@dataclass(frozen=True, slots=True)
class Permit(CallRequest["Granted | Refused"]):
    """Asks whether an attempt may be made: `Granted` or `Refused`."""


@dataclass(frozen=True, slots=True)
class GetState(CallRequest[str]):
    """Asks for the state: "closed", "open" or "half_open"."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The attempt may be made; `AttemptSucceeded` or `AttemptFailed` must follow."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No attempt now; `retry_after` in ms."""

    retry_after: float


@dataclass(frozen=True, slots=True)
class AttemptSucceeded:
    """An attempt got an answer that shows that the service works."""


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt failed; `why` is for the log."""

    why: str


class CircuitBreaker(StateMachine):
    """The breaker of `service`. Times in ms; `trial` is how long a half-open trial may take to report."""

    def init(
        self,
        service: str,
        failures: int = 5,
        reset: float = 1000,
        longest: float = 30_000,
        trial: float = 15_000,
    ) -> Any:
        self.service = service
        self.allowed_failures = failures
        self.reset = reset
        self.longest = longest
        self.trial = trial
        self.failures = 0
        self.wait = reset  # of the next opening
        self.until = 0.0  # when an open breaker becomes half-open, ms of the engine's clock
        self.why = ""
        self.trying = False  # half-open: the trial is under way
        return InitialState("closed")

    def closed(self, event: Any, content: Any) -> Any:
        match event, content:
            case ("call", from_), Permit():
                return KeepState(ReplyAction(from_, Granted()))
            case "cast", AttemptSucceeded():
                self.failures = 0
            case "cast", AttemptFailed(why):
                self.failures += 1
                self.why = why
                if self.failures >= self.allowed_failures:
                    return self._open("closed")
        return self._other(event, content)

    def open(self, event: Any, content: Any) -> Any:
        match event, content:
            case ("call", from_), Permit():
                return KeepState(ReplyAction(from_, Refused(max(1.0, self.until - self._now()))))
            case "state_timeout", _:
                self._changed("open", "half_open")
                self.trying = False
                return NextState("half_open")
        return self._other(event, content)

    def half_open(self, event: Any, content: Any) -> Any:
        match event, content:
            case ("call", from_), Permit() if not self.trying:
                self.trying = True
                return KeepState(ReplyAction(from_, Granted()), StateTimeout(self.trial))
            case ("call", from_), Permit():
                return KeepState(ReplyAction(from_, Refused(self.reset)))
            case "cast", AttemptSucceeded():
                self.failures = 0
                self.wait = self.reset
                self._changed("half_open", "closed")
                return NextState("closed")
            case "cast", AttemptFailed(why):
                self.why = why
                return self._open("half_open")
            case "state_timeout", _:  # the caller died during the trial
                self.trying = False
                return KeepState()
        return self._other(event, content)

    def _other(self, event: Any, content: Any) -> Any:
        match event, content:
            case ("call", from_), GetState():
                return KeepState(ReplyAction(from_, self.state))
        return KeepState()

    def _open(self, old: str) -> Any:
        # Jitter: the breakers of several servers must not all try at the same moment.
        wait = self.wait * random.uniform(0.9, 1.1)
        self.until = self._now() + wait
        self.wait = min(self.wait * 2, self.longest)
        self.failures = 0
        self._changed(old, "open")
        return NextState("open", StateTimeout(wait))

    def _now(self) -> float:
        return self.now() * 1000

    def _changed(self, old: str, new: str) -> None:
        if new == "open":
            log.warning("the breaker of %s is open, it was %s: %s", self.service, old, self.why)
        else:
            log.info("the breaker of %s is %s, it was %s", self.service, new, old)
        telemetry.execute(
            TRANSITION, {"count": 1}, {"service": self.service, "from": old, "to": new, "why": self.why}
        )

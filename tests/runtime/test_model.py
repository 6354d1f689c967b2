"""The runtime against a small pure model: random trees of processes, links, monitors, exits, names and timers.

hypothesis chooses the steps and the scheduler's seed; after each step the runtime runs to quiescence and
everything that can be seen (who lives, why the dead died, links, monitors, names, mail) must be as the model
says. A failure prints the seed and the shortest sequence of steps. `make fuzz` runs more than ten thousand
steps, `make test` fewer.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.core.exits import Error, Exit
from runtime.core.pid import Pid
from runtime.otp import erlang
from runtime.otp.erlang import Down, ExitMessage
from runtime.testing.deterministic_engine import DeterministicEngine

NAMES = ("alpha", "beta")
REASONS = ("normal", "shutdown", "kill", "killed", "boom", ("shutdown", 1))


# ---- the model: what Erlang's reference manual says, and no more


@dataclass
class Proc:
    number: int
    trap: bool
    links: dict[int, None] = field(default_factory=dict)
    monitors: dict[int, int] = field(default_factory=dict)  # monitor -> target
    watchers: dict[int, tuple[int, str | None]] = field(default_factory=dict)  # monitor -> (owner, by name)
    name: str | None = None
    alive: bool = True
    reason: Any = None
    mail: list[Any] = field(default_factory=list)


@dataclass
class ModelTimer:
    due: float
    dest: int | str
    message: Any
    live: bool = True


class Model:
    def __init__(self) -> None:
        self.procs: list[Proc] = []
        self.timers: list[ModelTimer] = []
        self.monitors = 0
        self.now = 0.0

    def named(self, name: str) -> Proc | None:
        return next((p for p in self.procs if p.name == name), None)

    def spawn(self, trap: bool) -> Proc:
        proc = Proc(len(self.procs), trap)
        self.procs.append(proc)
        return proc

    def link(self, a: Proc, b: Proc) -> Any:
        if a is b:
            return True
        if not b.alive:
            if not a.trap:
                return ("error", "noproc")
            a.mail.append(("EXIT", b.number, "noproc"))
            return True
        a.links[b.number] = None
        b.links[a.number] = None
        return True

    def unlink(self, a: Proc, b: Proc) -> None:
        a.links.pop(b.number, None)
        b.links.pop(a.number, None)

    def monitor(self, owner: Proc, target: Proc | None, name: str | None) -> int:
        self.monitors += 1
        if target is owner:
            return self.monitors
        if target is None or not target.alive:
            owner.mail.append(("DOWN", self.monitors, name or (target and target.number), "noproc"))
            return self.monitors
        owner.monitors[self.monitors] = target.number
        target.watchers[self.monitors] = (owner.number, name)
        return self.monitors

    def demonitor(self, owner: Proc, monitor: int) -> bool:
        if monitor not in owner.monitors:
            return False
        del self.procs[owner.monitors.pop(monitor)].watchers[monitor]
        return True

    def signal(self, target: Proc, source: int, reason: Any) -> None:
        """exit/2."""
        if not target.alive:
            return
        if reason == "kill":
            self.die(target, "killed")
        elif target.trap:
            target.mail.append(("EXIT", source, reason))
        elif reason != "normal" or source == target.number:
            self.die(target, reason)

    def die(self, proc: Proc, reason: Any) -> None:
        dying = deque([(proc, reason)])
        while dying:
            proc, reason = dying.popleft()
            if not proc.alive:
                continue
            proc.alive, proc.reason, proc.name = False, reason, None
            for monitor, target in proc.monitors.items():
                del self.procs[target].watchers[monitor]
            for number in proc.links:
                other = self.procs[number]
                del other.links[proc.number]
                if other.trap:
                    other.mail.append(("EXIT", proc.number, reason))
                elif reason != "normal":
                    dying.append((other, reason))
            for monitor, (owner, name) in proc.watchers.items():
                del self.procs[owner].monitors[monitor]
                self.procs[owner].mail.append(("DOWN", monitor, name or proc.number, reason))
            proc.links, proc.monitors, proc.watchers = {}, {}, {}

    def pending(self, timer: ModelTimer) -> bool:
        return timer.live and (isinstance(timer.dest, str) or self.procs[timer.dest].alive)

    def advance(self, ms: float) -> None:
        self.now += ms
        for timer in sorted((t for t in self.timers if t.live), key=lambda t: t.due):
            if timer.due <= self.now:
                timer.live = False
                dest = self.named(timer.dest) if isinstance(timer.dest, str) else self.procs[timer.dest]
                if dest is not None and dest.alive:
                    dest.mail.append(timer.message)


# ---- the runtime's side


class Do:
    """An order to a process: run `fn` there and keep what it gave."""

    def __init__(self, fn: Callable[[], Any]) -> None:
        self.fn = fn
        self.result: Any = None

    def run(self) -> None:
        try:
            self.result = self.fn()
        except Error as error:
            self.result = ("error", error.reason)


async def obey(mail: list[Any]) -> None:
    while True:
        message = await erlang.receive()
        if isinstance(message, Do):
            message.run()
        else:
            mail.append(message)


WHO = st.integers(min_value=0)


class Processes(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**16))
    def start(self, seed: int) -> None:
        note(f"DeterministicEngine(seed={seed})")
        self.engine = DeterministicEngine(seed)
        self.model = Model()
        self.pids: list[Pid] = []
        self.mail: list[list[Any]] = []
        self.refs: dict[int, Any] = {}  # by the model's number
        self.timer_refs: list[Any] = []
        self.reasons: dict[Pid, Any] = {}
        self.engine.on_exit.append(self.reasons.__setitem__)
        for trap in (True, False):
            self.adopt(self.engine.spawn(obey, self.new_mail(), trap_exit=trap), trap)

    def new_mail(self) -> list[Any]:
        self.mail.append([])
        return self.mail[-1]

    def adopt(self, pid: Pid, trap: bool) -> Proc:
        self.pids.append(pid)
        return self.model.spawn(trap)

    def anyone(self, n: int) -> Proc:
        return self.model.procs[n % len(self.model.procs)]

    def living(self, n: int) -> Proc:
        alive = [p for p in self.model.procs if p.alive]
        return alive[n % len(alive)]

    def by(self, proc: Proc, fn: Callable[[], Any]) -> Any:
        """Has the process run `fn`, and all others what follows from it."""
        order = Do(fn)
        erlang.send(self.pids[proc.number], order)
        self.engine.run()
        return order.result

    def some_live(self) -> bool:
        return any(p.alive for p in self.model.procs)

    def few(self) -> bool:
        return len(self.model.procs) < 12

    # ---- steps

    @precondition(few)
    @rule(trap=st.booleans())
    def spawn(self, trap: bool) -> None:
        self.adopt(self.engine.spawn(obey, self.new_mail(), trap_exit=trap), trap)
        self.engine.run()

    @precondition(lambda self: self.some_live() and self.few())
    @rule(parent=WHO, trap=st.booleans(), monitor=st.booleans())
    def spawn_linked(self, parent: int, trap: bool, monitor: bool) -> None:
        by = self.living(parent)
        mail = self.new_mail()
        got = self.by(by, lambda: erlang.spawn(obey, mail, link=True, monitor=monitor, trap_exit=trap))
        pid, ref = got if monitor else (got, None)
        child = self.adopt(pid, trap)
        self.model.link(by, child)
        if monitor:
            self.refs[self.model.monitor(by, child, None)] = ref

    @precondition(some_live)
    @rule(a=WHO, b=WHO)
    def link(self, a: int, b: int) -> None:
        by, to = self.living(a), self.anyone(b)
        assert self.by(by, lambda: erlang.link(self.pids[to.number])) == self.model.link(by, to)

    @precondition(some_live)
    @rule(a=WHO, b=WHO)
    def unlink(self, a: int, b: int) -> None:
        by, to = self.living(a), self.anyone(b)
        assert self.by(by, lambda: erlang.unlink(self.pids[to.number])) is True
        self.model.unlink(by, to)

    @precondition(some_live)
    @rule(a=WHO, b=WHO)
    def monitor(self, a: int, b: int) -> None:
        by, to = self.living(a), self.anyone(b)
        ref = self.by(by, lambda: erlang.monitor(self.pids[to.number]))
        self.refs[self.model.monitor(by, to, None)] = ref

    @precondition(some_live)
    @rule(a=WHO, name=st.sampled_from(NAMES))
    def monitor_name(self, a: int, name: str) -> None:
        by = self.living(a)
        ref = self.by(by, lambda: erlang.monitor(name))
        self.refs[self.model.monitor(by, self.model.named(name), name)] = ref

    @precondition(lambda self: self.some_live() and self.refs)
    @rule(a=WHO, which=WHO, flush=st.booleans())
    def demonitor(self, a: int, which: int, flush: bool) -> None:
        by, number = self.living(a), which % len(self.refs) + 1
        ref = self.refs[number]
        found = self.by(by, lambda: erlang.demonitor(ref, flush=flush, info=True))
        assert found == self.model.demonitor(by, number)

    @precondition(some_live)
    @rule(a=WHO, b=WHO, reason=st.sampled_from(REASONS))
    def exit(self, a: int, b: int, reason: Any) -> None:
        by, to = self.living(a), self.anyone(b)
        self.by(by, lambda: erlang.exit(self.pids[to.number], reason))
        self.model.signal(to, by.number, reason)

    @precondition(some_live)
    @rule(a=WHO, reason=st.sampled_from(REASONS))
    def exit_self(self, a: int, reason: Any) -> None:
        def end() -> None:
            raise Exit(reason)

        by = self.living(a)
        self.by(by, end)
        self.model.die(by, reason)

    @precondition(some_live)
    @rule(a=WHO, flag=st.booleans())
    def trap_exit(self, a: int, flag: bool) -> None:
        by = self.living(a)
        assert self.by(by, lambda: erlang.trap_exit(flag)) == by.trap
        by.trap = flag

    @precondition(some_live)
    @rule(a=WHO, b=WHO, name=st.sampled_from(NAMES))
    def register(self, a: int, b: int, name: str) -> None:
        by, to = self.living(a), self.anyone(b)
        got = self.by(by, lambda: erlang.register(name, self.pids[to.number]))
        if self.model.named(name) is not None or not to.alive or to.name is not None:
            assert got == ("error", "badarg")
        else:
            assert got is True
            to.name = name

    @precondition(some_live)
    @rule(a=WHO, name=st.sampled_from(NAMES))
    def unregister(self, a: int, name: str) -> None:
        holder = self.model.named(name)
        got = self.by(self.living(a), lambda: erlang.unregister(name))
        assert got == (("error", "badarg") if holder is None else True)
        if holder is not None:
            holder.name = None

    @precondition(some_live)
    @rule(a=WHO, b=WHO, message=st.integers())
    def send(self, a: int, b: int, message: int) -> None:
        by, to = self.living(a), self.anyone(b)
        self.by(by, lambda: erlang.send(self.pids[to.number], message))
        if to.alive:
            to.mail.append(message)

    @precondition(some_live)
    @rule(a=WHO, b=st.one_of(WHO, st.sampled_from(NAMES)), ms=st.integers(1, 50))
    def send_after(self, a: int, b: int | str, ms: int) -> None:
        dest = b if isinstance(b, str) else self.anyone(b).number
        message = f"timer {len(self.timer_refs)}"
        to = dest if isinstance(dest, str) else self.pids[dest]
        self.timer_refs.append(self.by(self.living(a), lambda: erlang.send_after(ms, to, message)))
        self.model.timers.append(ModelTimer(self.model.now + ms, dest, message))

    @precondition(lambda self: self.some_live() and self.timer_refs)
    @rule(a=WHO, which=WHO)
    def cancel_timer(self, a: int, which: int) -> None:
        index = which % len(self.timer_refs)
        timer = self.model.timers[index]
        got = self.by(self.living(a), lambda: erlang.cancel_timer(self.timer_refs[index]))
        assert got == (round(timer.due - self.model.now) if self.model.pending(timer) else False)
        if self.model.pending(timer):
            timer.live = False

    @rule(ms=st.integers(0, 60))
    def advance(self, ms: int) -> None:
        self.engine.advance(ms)
        self.model.advance(ms)

    # ---- what must hold after each step

    def seen(self, message: Any) -> Any:
        """A message of the runtime in the model's words."""
        match message:
            case ExitMessage(pid, reason):
                return ("EXIT", self.pids.index(pid), reason)
            case Down(ref, pid, reason):
                number = next(n for n, r in self.refs.items() if r is ref)
                return ("DOWN", number, pid[0] if isinstance(pid, tuple) else self.pids.index(pid), reason)
        return message

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        for proc in self.model.procs:
            pid = self.pids[proc.number]
            info = erlang.process_info(pid)
            assert (info is not None) == proc.alive, f"{pid} alive"
            if info is None:
                assert self.reasons[pid] == proc.reason
                continue
            assert set(info["links"]) == {self.pids[n] for n in proc.links}
            watched = Counter(
                self.model.procs[target].watchers[monitor][1] or self.pids[target]
                for monitor, target in proc.monitors.items()
            )
            assert Counter(info["monitors"]) == watched
            assert info["registered_name"] == proc.name
            assert [self.seen(m) for m in self.mail[proc.number]] == proc.mail
        names = {p.name: self.pids[p.number] for p in self.model.procs if p.name is not None}
        assert {name: erlang.whereis(name) for name in erlang.registered()} == names
        for timer, ref in zip(self.model.timers, self.timer_refs, strict=True):
            left = round(timer.due - self.model.now) if self.model.pending(timer) else False
            assert erlang.read_timer(ref) == left

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()


def steps(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logging.disable(logging.CRITICAL)  # thousands of crash reports
    yield
    logging.disable(logging.NOTSET)


# 50 steps an example: some 3,000 steps, or 20,000.
TestStatefulProcesses = Processes.TestCase
TestStatefulProcesses.settings = steps(400 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 60)

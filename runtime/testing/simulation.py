"""Deterministic tests of processes: inject messages, advance time, inspect what was sent, explore interleavings.

    def test_breaker_opens():
        with Simulation(seed=7) as sim:
            probe = sim.probe()
            pid = sim.start(Breaker, probe.pid, name="breaker")
            sim.cast("breaker", Failure(), Failure(), Failure())    # a message sequence
            sim.run()                                               # until idle; no time passes
            assert probe.messages == [Opened()]                     # what it sent to the probe
            sim.advance(30_000)                                     # virtual milliseconds
            assert sim.call("breaker", State()) == "half_open"
            sim.exit(pid, "kill")

    def test_breaker_in_every_order():
        explore(scenario, interleavings=200)        # scenario(sim); prints the seed that fails

A test may also be an async function that runs as a process (which traps exits and may link, monitor and receive): `play` runs it
under a seed, `play_real` on the asyncio engine. A seed determines the interleaving: `Simulation(seed).trace` is the same text,
byte for byte, in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from inspect import iscoroutinefunction
from typing import Any

from runtime.core.actor import FunctionProcess
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.core.exits import Exit
from runtime.core.modes import DEAD
from runtime.core.pid import Pid
from runtime.otp import erlang, gen_server
from runtime.otp.destination import Dest, resolve
from runtime.otp.gen_server import GenServer, start_actor
from runtime.testing import sequence_chart
from runtime.testing.deterministic_engine import DeterministicEngine
from runtime.testing.run import Run

Body = Callable[..., Coroutine[Any, Any, Any]]


class Probe:
    """A process that records its `messages` in order. Pass its `pid` to the process under test."""

    def __init__(self, pid: Pid, messages: list[Any]) -> None:
        self.pid = pid
        self.messages = messages

    def take(self) -> list[Any]:
        """The messages since the last `take`."""
        taken = self.messages[:]
        self.messages.clear()
        return taken


async def _collect(messages: list[Any]) -> None:
    while True:
        messages.append(await erlang.receive())


class Simulation(Run):
    """Processes on a DeterministicEngine. `seed` decides every choice of the scheduler; time is virtual.

    `choices`, as found by `shrink`, replace the seed: each is the index of the runnable to run, of which 0 has waited longest.
    """

    def __init__(self, seed: int = 0, choices: Sequence[int] | None = None) -> None:
        self.seed = seed
        self._scripted = choices is not None
        self.engine = DeterministicEngine(seed, trace=True, choices=choices)

    def __str__(self) -> str:
        return f"choices={self.choices}" if self._scripted else f"seed={self.seed}"

    @property
    def choices(self) -> list[int]:
        """The choices of the scheduler so far, without trailing zeros: `Simulation(choices=...)` repeats them."""
        made = self.engine.choices
        last = max((index for index, choice in enumerate(made) if choice), default=-1)
        return made[: last + 1]

    def chart(self, limit: int | None = 60) -> str:
        """The last `limit` messages, signals and exits (None: all) as a message-sequence chart in text."""
        return sequence_chart.text(self.engine.events, limit)

    def mermaid(self, limit: int | None = 60) -> str:
        """As `chart`, as a Mermaid sequenceDiagram."""
        return sequence_chart.mermaid(self.engine.events, limit)

    def close(self) -> None:
        """Kills all processes."""
        self.engine.close()

    # ---- injecting

    def start(self, actor: type[GenServer], *args: Any, name: Any = None) -> Pid:
        """Starts a behaviour without a parent and runs until its init has returned. Raises StartError."""
        pid = self.complete(start_actor(actor(), args, link=False, name=name))
        if pid is None:
            raise AssertionError(f"{actor.__name__} ignored its start")
        return pid

    def spawn(
        self, fn: Callable[..., Any], *args: Any, name: str | None = None, trap_exit: bool = False
    ) -> Pid:
        """Spawns a plain process, which has not run yet."""
        return self.engine.spawn(fn, *args, name=name, trap_exit=trap_exit)

    def probe(self, name: str | None = None) -> Probe:
        """Spawns a probe, which traps exits and so also records ExitMessages."""
        messages: list[Any] = []
        pid = self.spawn(_collect, messages, name=name, trap_exit=True)
        return Probe(pid, messages)

    def send(self, dest: Dest, *messages: Any) -> None:
        """Sends messages in order; `dest` as of `call`."""
        via = isinstance(dest, tuple) and dest[:1] == ("via",)
        for message in messages:
            erlang.send(resolve(dest) if via else dest, message)  # type: ignore[arg-type]

    def cast(self, dest: Dest, *requests: Any) -> None:
        """`gen_server.cast` of each request in order."""
        for request in requests:
            gen_server.cast(dest, request)

    def call(self, dest: Dest, request: Any, timeout: float | None = gen_server.DEFAULT_TIMEOUT) -> Any:
        """`gen_server.call`: runs, advancing time as needed, until the reply arrives."""
        return self.complete(gen_server.call(dest, request, timeout))

    def exit(self, dest: Dest, reason: Any, source: Dest = None) -> None:
        """Sends an exit signal to a destination as of `call`, from `source` or by default from itself.

        Raises Exit("noproc") if there is no such process.
        """
        cell, sender = resolve(dest), resolve(source)
        if cell is None:
            raise Exit("noproc")
        cell.exit_signal(cell if sender is None else sender, reason, False)

    # ---- running

    def run(self) -> int:
        """Runs until nothing is runnable; no time passes. Returns the number of steps."""
        return self.engine.run()

    def advance(self, ms: float) -> None:
        """Advances the virtual clock by `ms` and runs what is due, in order."""
        self.engine.advance(ms)

    def complete(self, awaitable: Awaitable[Any], limit_ms: float = 3_600_000) -> Any:
        """Runs, advancing time as needed, until `awaitable` is done; returns its result."""
        return self.engine.complete(awaitable, limit_ms=limit_ms)

    def play(self, body: Body, *args: Any, limit_ms: float = 3_600_000) -> Any:
        """Runs `body(*args)` to its end as a process that traps exits; returns its result or raises its exception.

        Raises TimeoutError after `limit_ms` of virtual time, or when nothing is left that could wake it.
        """
        outcome: list[tuple[Any, BaseException | None]] = []
        pid = self.engine.spawn(_outcome_of, outcome.append, body, args, trap_exit=True)
        until = self.engine.now() + limit_ms / 1000
        self.engine.run()
        while not outcome and pid.cell.execution.mode != DEAD:
            due = self.engine.timers.next()
            if due is None or due > until:
                raise TimeoutError(f"{body.__name__} is not done at {self.engine.now() * 1000:.0f} ms")
            self.engine.advance((due - self.engine.now()) * 1000)
        return _result(outcome, body)

    # ---- inspecting

    @property
    def now(self) -> float:
        """Virtual milliseconds since the start."""
        return self.engine.now() * 1000

    def sent(self, by: Dest = None, to: Dest = None) -> list[Any]:
        """The messages sent so far in order, optionally only those sent `by` a process or `to` one.

        A call is a `Call`, a cast a `Cast`; both have `.request`. Names are resolved now.
        """
        by, to = resolve(by), resolve(to)
        return [
            message
            for sender, receiver, message in self.engine.sent
            if (by is None or sender is by) and (to is None or receiver is to)
        ]

    @property
    def trace(self) -> str:
        """One line per event: virtual ms, what (run, send, signal, exit), process, details."""
        assert self.engine.trace is not None
        return "".join(
            f"{ms:g} {what} {who} {detail}".rstrip() + "\n" for ms, what, who, detail in self.engine.trace
        )


async def _outcome_of(
    report: Callable[[tuple[Any, BaseException | None]], None], body: Body, args: tuple[Any, ...]
) -> None:
    try:
        report((await body(*args), None))
    except Exception as exc:
        report((None, exc))


def _result(outcome: list[tuple[Any, BaseException | None]], body: Body) -> Any:
    if not outcome:
        raise RuntimeError(f"the process of {body.__name__} was ended by a signal")
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def play(body: Body, *args: Any, seed: int = 0) -> Any:
    """As `Simulation.play`, in a new Simulation."""
    with Simulation(seed) as sim:
        return sim.play(body, *args)


def play_real(body: Body, *args: Any, timeout: float = 30_000) -> Any:
    """As `play`, on the asyncio engine in real time, for at most `timeout` ms."""

    async def main() -> Any:
        engine = AsyncioEngine().start()
        done: asyncio.Future[tuple[Any, BaseException | None]] = engine.loop.create_future()

        def ended(_pid: Pid) -> None:
            if not done.done():
                done.set_exception(RuntimeError(f"the process of {body.__name__} was ended by a signal"))

        cell = engine.spawn_actor(FunctionProcess(_outcome_of, (done.set_result, body, args)))
        cell.own_relations().trap_exit = True
        cell.on_exit(ended)
        try:
            async with asyncio.timeout(timeout / 1000):
                return _result([await done], body)
        finally:
            await engine.stop()

    return asyncio.run(main())


def explore(
    scenario: Callable[[Simulation], Any] | Body, interleavings: int = 100, seeds: Iterable[int] | None = None
) -> int:
    """Runs `scenario` under many seeds; returns the number of different traces.

    `scenario` is a function of a Simulation, or an async function without arguments, which runs as a process. If it raises, the
    seed is printed and added to the exception; `Simulation(seed)` repeats that interleaving.
    """
    traces: set[str] = set()
    for seed in range(interleavings) if seeds is None else seeds:
        try:
            traces.add(trace_of(scenario, seed))
        except BaseException:
            print(f"explore: {getattr(scenario, '__name__', scenario)} fails with seed {seed}")
            raise
    return len(traces)


def trace_of(scenario: Callable[[Simulation], Any] | Body, seed: int) -> str:
    """The trace of a scenario (as of `explore`) under `seed`."""
    with Simulation(seed) as sim:
        perform(scenario, sim)
        return sim.trace


def perform(scenario: Callable[[Simulation], Any] | Body, sim: Simulation) -> None:
    """Runs a scenario (as of `explore`) in a Simulation."""
    if iscoroutinefunction(scenario):
        sim.play(scenario)
    else:
        scenario(sim)


def assert_reproducible(scenario: Callable[[Simulation], Any] | Body, seed: int = 0) -> None:
    """Runs a scenario twice under one seed. Raises AssertionError with the first difference of the traces."""
    first, second = trace_of(scenario, seed), trace_of(scenario, seed)
    if first == second:
        return
    lines = zip(first.splitlines(), second.splitlines(), strict=False)
    number, (a, b) = next(
        ((n, pair) for n, pair in enumerate(lines, 1) if pair[0] != pair[1]), (0, ("(end)", "(end)"))
    )
    raise AssertionError(f"seed {seed}: two runs differ at line {number}:\n  {a}\n  {b}")

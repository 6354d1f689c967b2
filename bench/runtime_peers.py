"""One system's figures for bench/benchmarks/runtime.py: `python -m bench.runtime_peers NAME` prints them as JSON.

`make bench AGAINST=REV` runs the `ours` of both commits, each with its own copy of this file: name, place and output stay.

Each system runs in a process of its own. Figures are seconds of CPU per unit (user and system, all threads), so a busy
machine disturbs them little; `memory` is bytes of RSS per idle process. What a system does not have is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

Figures = dict[str, float]
RESULT: Figures = {}
PATIENCE = 90  # seconds; a system that hangs is left with the figures it has


def resident() -> int:
    """Bytes of memory this process occupies."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


@contextlib.contextmanager
def measured(figures: Figures, name: str, count: int) -> Iterator[None]:
    """Adds the CPU seconds per unit of the block, collector off, best of what was measured before."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    try:
        yield
    finally:
        gc.enable()
    figures[name] = min(figures.get(name, 1e9), (time.process_time() - start) / count)


def ours() -> Figures:
    """This runtime on uvloop."""
    import uvloop

    from runtime.core.asyncio_engine import AsyncioEngine
    from runtime.otp import erlang
    from runtime.otp.gen_server import GenServer, Reply, call
    from runtime.otp.supervisor import ChildSpec, Supervisor

    logging.disable(logging.CRITICAL)
    figures = RESULT

    class Server(GenServer):
        def handle_call(self, request: Any, from_: Any) -> Any:
            return Reply(request)

        def handle_info(self, message: Any) -> None:
            if message != 1:
                erlang.send(message, "done")

    async def in_process(body: Callable[[], Awaitable[None]]) -> None:
        done = asyncio.get_running_loop().create_future()

        async def run() -> None:
            await body()
            done.set_result(None)

        erlang.spawn(run)
        await done

    async def main() -> None:
        engine = AsyncioEngine().start()
        await in_process(idle_processes)
        for _ in range(3):
            await in_process(spawns)
            await in_process(sends)
            await in_process(calls)
            await in_process(restarts)
        await engine.stop()

    async def idle_processes() -> None:
        before, count = resident(), 100_000
        start = time.process_time()
        for _ in range(count):
            await Server.start()
        figures["100k"] = time.process_time() - start
        figures["memory"] = (resident() - before) / count
        for pid in erlang.processes():
            if pid is not erlang.self_():
                erlang.exit(pid, "kill")

    async def spawns() -> None:
        with measured(figures, "spawn", 20_000):
            for _ in range(20_000):
                erlang.spawn(noop)
            await erlang.sleep(0)

    async def noop() -> None:
        pass

    async def sends() -> None:
        pid = await Server.start_link()
        assert pid is not None
        with measured(figures, "send", 100_000):
            for _ in range(100_000):
                erlang.send(pid, 1)
            erlang.send(pid, erlang.self_())
            await erlang.receive()

    async def calls() -> None:
        pid = await Server.start_link()
        with measured(figures, "call", 50_000):
            for _ in range(50_000):
                await call(pid, 1, None)
        with measured(figures, "call with timeout", 50_000):
            for _ in range(50_000):
                await call(pid, 1, 5000)

    async def restarts() -> None:
        await Supervisor.start_link([ChildSpec("w", (named, ()))], intensity=10**9, period=3600)
        with measured(figures, "restart", 2_000):
            for _ in range(2_000):
                old = erlang.whereis("bench_worker")
                assert old is not None
                erlang.exit(old, "crash")
                while erlang.whereis("bench_worker") in (None, old):
                    await asyncio.sleep(0)
        erlang.unregister("bench_worker")

    async def named() -> Any:
        return await Server.start_link(name="bench_worker")

    uvloop.run(main())
    return figures


def thespian() -> Figures:
    """Thespian's simpleSystemBase."""
    from thespian.actors import Actor, ActorSystem

    return _thespian(Actor, ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True))


def ours_thespian() -> Figures:
    """The same plain Thespian actors on our base."""
    from thespian.actors import Actor, ActorSystem

    from runtime.thespian.system_base import SystemBase

    return _thespian(Actor, ActorSystem(systemBase=SystemBase(), transientUnique=True))


def _thespian(actor: type, system: Any) -> Figures:
    figures = RESULT

    class Echo(actor):
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            if type(msg) is int:
                self.send(sender, msg)
            elif isinstance(msg, tuple):
                self.peer, self.left, self.asker = *msg, sender
                self.send(self.peer, "ping")
            elif msg == "ping":
                self.send(sender, "pong")
            elif msg == "pong":
                self.left -= 2
                self.send(self.peer if self.left > 0 else self.asker, "ping")

    before, count = resident(), 100_000
    start = time.process_time()
    kept = [system.createActor(Echo) for _ in range(count)]
    figures["100k"] = time.process_time() - start
    figures["memory"] = (resident() - before) / len(kept)
    for _ in range(3):
        with measured(figures, "spawn", 3_000):
            for _ in range(3_000):
                system.createActor(Echo)
        one, two = system.createActor(Echo), system.createActor(Echo)
        with measured(figures, "send", 30_000):
            system.ask(one, (two, 30_000), 60)
        with measured(figures, "call", 10_000):
            for _ in range(10_000):
                system.ask(one, 1)
        with measured(figures, "call with timeout", 10_000):
            for _ in range(10_000):
                system.ask(one, 1, 5)
    return figures


def pykka() -> Figures:
    """Pykka: a thread per actor, so a hundred thousand are out of reach."""
    import pykka as library

    figures = RESULT

    class Echo(library.ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            return message

    before = resident()
    kept = [Echo.start() for _ in range(1_000)]
    figures["memory"] = (resident() - before) / len(kept)
    library.ActorRegistry.stop_all()
    for _ in range(3):
        started = []
        with measured(figures, "spawn", 300):
            for _ in range(300):
                started.append(Echo.start())
        for ref in started:
            ref.stop()
        ref = Echo.start()
        with measured(figures, "send", 30_000):
            for _ in range(30_000):
                ref.tell(1)
            ref.ask(1)
        with measured(figures, "call", 5_000):
            for _ in range(5_000):
                ref.ask(1)
        with measured(figures, "call with timeout", 5_000):
            for _ in range(5_000):
                ref.ask(1, timeout=5)
        ref.stop()
    return figures


def triotp() -> Figures:
    """triotp: mailboxes and gen_servers on trio."""
    from types import SimpleNamespace

    import trio
    from triotp import gen_server, mailbox, node, supervisor
    from triotp.application import app_spec

    figures = RESULT

    async def init(_argument: Any) -> Any:
        return None

    async def handle_call(message: Any, _caller: Any, state: Any) -> Any:
        return gen_server.Reply(payload=message), state

    server = SimpleNamespace(init=init, handle_call=handle_call, __name__="server")
    restarted: list[trio.Event] = []

    async def idle() -> None:
        async with mailbox.open() as mid:
            await mailbox.receive(mid)

    async def noop() -> None:
        async with mailbox.open():
            pass

    async def sink(count: int, task_status: Any) -> None:
        async with mailbox.open(name="sink") as mid:
            task_status.started()
            for _ in range(count):
                await mailbox.receive(mid)

    async def crasher() -> None:
        restarted[0].set()
        async with mailbox.open(name="crasher") as mid:
            await mailbox.receive(mid)
        raise RuntimeError("crash")

    async def start(_argument: Any) -> None:
        async with trio.open_nursery() as nursery:
            before, began = resident(), time.process_time()
            for _ in range(100_000):
                nursery.start_soon(idle)
            await trio.sleep(0.01)
            figures["100k"] = time.process_time() - began
            figures["memory"] = (resident() - before) / 100_000
            nursery.cancel_scope.cancel()
        for _ in range(2):
            with measured(figures, "spawn", 5_000):
                async with trio.open_nursery() as nursery:
                    for _ in range(5_000):
                        nursery.start_soon(noop)
            with measured(figures, "send", 20_000):
                async with trio.open_nursery() as nursery:
                    await nursery.start(sink, 20_000)
                    for _ in range(20_000):
                        await mailbox.send("sink", 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(gen_server.start, server, None, "server")
                await trio.sleep(0.01)
                with measured(figures, "call", 10_000):
                    for _ in range(10_000):
                        await gen_server.call("server", 1)
                with measured(figures, "call with timeout", 10_000):
                    for _ in range(10_000):
                        await gen_server.call("server", 1, 5)
                nursery.cancel_scope.cancel()
            async with trio.open_nursery() as nursery:
                restarted[:] = [trio.Event()]
                spec = supervisor.child_spec("c", crasher, [], supervisor.restart_strategy.PERMANENT)
                await nursery.start(supervisor.start, [spec], supervisor.options(10**9, 3600))
                await restarted[0].wait()
                with measured(figures, "restart", 500):
                    for _ in range(500):
                        await trio.sleep(0)
                        restarted[0] = trio.Event()
                        await mailbox.send("crasher", "crash")
                        await restarted[0].wait()
                nursery.cancel_scope.cancel()

    node.run([app_spec(SimpleNamespace(start=start, __name__="bench"), None, permanent=False)])
    return figures


def otpylib() -> Figures:
    """otpylib: processes on asyncio tasks."""
    from otpylib import gen_server, process, supervisor
    from otpylib.module import GEN_SERVER, SUPERVISOR, OTPModule
    from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

    figures = RESULT

    class Server(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
        async def init(self, _argument: Any) -> Any:
            return None

        async def handle_call(self, request: Any, _caller: Any, state: Any) -> Any:
            return gen_server.Reply(payload=request), state

        async def handle_cast(self, request: Any, state: Any) -> Any:
            raise RuntimeError("crash")

        async def handle_info(self, message: Any, state: Any) -> Any:
            return gen_server.NoReply(), state

        async def terminate(self, reason: Any, state: Any) -> None:
            pass

    class Top(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
        async def init(self, _argument: Any) -> Any:
            spec = supervisor.child_spec(id="w", module=Server, args=None, name="worker")
            return [spec], supervisor.options(max_restarts=10**9, max_seconds=3600)

        async def terminate(self, reason: Any, state: Any) -> None:
            pass

    async def idle() -> None:
        await process.receive()

    async def noop() -> None:
        pass

    async def sink(count: int, parent: str) -> None:
        for _ in range(count):
            await process.receive()
        await process.send(parent, "done")

    async def body(done: asyncio.Future[None]) -> None:
        try:
            await work()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    async def work() -> None:
        me = process.self()
        assert me is not None
        started: list[str] = []
        before, began = resident(), time.process_time()
        for _ in range(100_000):
            started.append(await process.spawn(idle))
        await asyncio.sleep(0.01)
        figures["100k"] = time.process_time() - began
        figures["memory"] = (resident() - before) / 100_000
        for pid in started:
            await process.send(pid, "stop")
        await asyncio.sleep(0.1)
        for number in range(2):
            with measured(figures, "spawn", 5_000):
                for _ in range(5_000):
                    await process.spawn(noop)
                await asyncio.sleep(0.01)
            with measured(figures, "send", 20_000):
                pid = await process.spawn(sink, args=[20_000, me])
                for _ in range(20_000):
                    await process.send(pid, 1)
                await process.receive()
            await gen_server.start(Server, None, f"server{number}")
            with measured(figures, "call", 5_000):
                for _ in range(5_000):
                    await gen_server.call(f"server{number}", 1, timeout=0)
            with measured(figures, "call with timeout", 5_000):
                for _ in range(5_000):
                    await gen_server.call(f"server{number}", 1, timeout=5)
        await supervisor.start_link(Top, None, "top")
        done, start = 0, time.process_time()
        limit = time.monotonic() + 5
        while done < 100 and time.monotonic() < limit:
            old = process.whereis("worker")
            await gen_server.cast("worker", "crash")
            while process.whereis("worker") in (None, old) and time.monotonic() < limit:
                await asyncio.sleep(0)
            done += process.whereis("worker") not in (None, old)
        if done == 100:  # else its supervisor lost the child, and there is nothing to compare with
            figures["restart"] = (time.process_time() - start) / done

    async def main() -> None:
        backend = AsyncIOBackend()
        await backend.initialize()
        process.use_runtime(backend)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await process.spawn(body, args=[done], trap_exits=True)
        await done

    with contextlib.redirect_stdout(io.StringIO()):
        asyncio.run(main())
    return figures


SYSTEMS: dict[str, Callable[[], Figures]] = {
    "ours": ours,
    "ours, Thespian actors": ours_thespian,
    "thespian simple": thespian,
    "pykka": pykka,
    "triotp": triotp,
    "otpylib": otpylib,
}


def report(*_signal: Any) -> None:
    """Prints the figures and ends the program, whatever threads it left."""
    os.write(1, ("\n" + json.dumps(RESULT) + "\n").encode())
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, report)
    signal.alarm(PATIENCE)
    SYSTEMS[sys.argv[1]]()
    report()

"""Programs of Elixir's `Agent` and `Process`."""

from __future__ import annotations

from typing import Any

from runtime import (
    Throw,
    agent,
    erlang,
)
from tests.elixir.program import caught, done, down, end_of, error_of, fails, hold, mail, program

# ---- Agent


@program
async def agent_get_update() -> Any:
    a = await agent.start_link(lambda: 1)
    return [
        await agent.get(a, lambda n: n + 1),
        await agent.update(a, lambda n: n * 10),
        await agent.get_and_update(a, lambda n: (n, n + 1)),
        await done(agent.cast(a, lambda n: n + 5)),
        await agent.get(a, lambda n: n),
    ]


@program
async def agent_raise_in_get() -> Any:
    a = await agent.start(lambda: 1)
    assert a is not None
    return [await caught(lambda: agent.get(a, fails("boom"))), await end_of(a)]


@program
async def agent_bad_get_and_update() -> Any:
    a = await agent.start(lambda: 1)
    return await caught(lambda: agent.get_and_update(a, lambda _: 7))


@program
async def agent_timeout() -> Any:
    a = await agent.start(lambda: 1)
    return await caught(lambda: agent.get(a, lambda _: erlang.sleep(100), timeout=10))


@program
async def agent_start_errors() -> Any:
    erlang.trap_exit(True)

    def throws() -> None:
        raise Throw("boom")

    return [
        await error_of(agent.start_link(fails("boom"))),
        (await error_of(agent.start(throws)))[0],
        (await error_of(agent.start(lambda: 1, name="named_agent")))[0],
        (await error_of(agent.start(lambda: 2, name="named_agent")))[1][0],
    ]


@program
async def agent_stop() -> Any:
    a, b = await agent.start(lambda: 1), await agent.start(lambda: 1)
    assert a is not None and b is not None
    return [
        await done(agent.stop(a)), await end_of(a), await caught(lambda: done(agent.stop(b, "other"))), await end_of(b),
        await caught(lambda: agent.get(a, lambda n: n)), await caught(lambda: done(agent.stop(a))),
    ]  # fmt: skip


@program
async def agent_start_timeout() -> Any:
    return await error_of(agent.start(lambda: erlang.sleep(500), timeout=20))


@program
async def agent_args() -> Any:
    a = await agent.start_link(lambda x, y: x + y, 1, 2)
    return [
        await agent.get(a, lambda x, y: x + y, 10),
        await agent.update(a, lambda x, y: x * y, 4),
        await agent.get(a, lambda n: n),
    ]


# ---- Process


@program
async def proc_timers() -> Any:
    me = erlang.self_()
    t = erlang.send_after(1000, me, "late")
    results = [
        type(erlang.read_timer(t)) is int, type(erlang.cancel_timer(t)) is int, erlang.cancel_timer(t), erlang.read_timer(t),
        erlang.cancel_timer(erlang.send_after(1000, me, "x"), info=False), erlang.cancel_timer(t, async_=True),
        erlang.cancel_timer(t, async_=True, info=False),
    ]  # fmt: skip
    [(word, _, left)] = await mail()
    erlang.send_after(erlang.monotonic_time() + 10, me, "abs", abs=True)
    absolute = await mail(60)
    erlang.send_after(erlang.monotonic_time() - 10, me, "past", abs=True)
    return [*results, (word, left), absolute, await mail(60)]


@program
async def proc_dictionary() -> Any:
    default = erlang.get("b")
    return [
        erlang.put("a", 1), erlang.put("a", 2), erlang.get("a"), erlang.get("b"), "default" if default is None else default,
        erlang.erase("a"), erlang.erase("a"), erlang.get_keys(5),
    ]  # fmt: skip


@program
async def proc_flags() -> Any:
    return [erlang.trap_exit(True), erlang.trap_exit(False), erlang.is_process_alive(erlang.self_())]


@program
async def proc_register() -> Any:
    p = erlang.spawn(hold)
    nothing: Any = None
    registered = [
        erlang.register("some_name", p),
        (*(await caught(lambda: erlang.register("some_name", erlang.self_())))[:1], "ArgumentError"),
        erlang.whereis("some_name") is p, erlang.unregister("some_name"), await caught(lambda: erlang.unregister("some_name")),
    ]  # fmt: skip
    return [
        *registered,
        erlang.whereis("some_name"),
        (await caught(lambda: erlang.register(nothing, erlang.self_())))[0],
    ]


@program
async def proc_exit_reasons() -> Any:
    results: list[str] = []
    for reason in ("normal", "shutdown", "kill", "boom"):
        p = erlang.spawn(hold)
        await erlang.sleep(1)
        erlang.exit(p, reason)
        await erlang.sleep(10)
        results.append("alive" if erlang.is_process_alive(p) else "dead")
    return results


@program
async def proc_info() -> Any:
    async def body() -> None:
        erlang.trap_exit(True)
        await hold()

    p = erlang.spawn(body)
    await erlang.sleep(10)
    erlang.send(p, "mail")
    await erlang.sleep(10)
    info = erlang.process_info
    name = info(p, "registered_name")
    results = [
        info(p, "messages"), info(p, ["trap_exit", "message_queue_len"]), ("registered_name", name[1] or []) if name else None,
        info(p, "priority"), info(p, "links"),
    ]  # fmt: skip
    erlang.exit(p, "kill")
    await erlang.sleep(10)
    return [*results, info(p, "messages"), (await caught(lambda: info(erlang.self_(), "nonsense")))[0]]


@program
async def proc_group_leader() -> Any:
    me = erlang.self_()
    result = erlang.group_leader(me, me)
    erlang.spawn(lambda: erlang.send(me, ("child", erlang.group_leader() is me)))
    return [result, await erlang.receive(), (await caught(lambda: erlang.group_leader(me, "nobody")))[0]]


@program
async def proc_spawn_monitor() -> Any:
    pid, ref = erlang.spawn_monitor(fails("boom"))
    return [await down(pid, ref), erlang.demonitor(ref, flush=True, info=True)]

"""Programs of Elixir's `Task.Supervisor`."""

from __future__ import annotations

from typing import Any

from runtime import (
    TIMEOUT,
    Down,
    Exit,
    TaskSupervisor,
    erlang,
    supervisor,
    task_supervisor,
)
from tests.elixir.program import (
    answer,
    boom_at_one,
    caught,
    down,
    end_of,
    error_of,
    fails,
    hold,
    listed,
    mail,
    program,
    trapping_for_ever,
)

# ---- Task.Supervisor


@program
async def sup_async_nolink() -> Any:
    sup = await TaskSupervisor.start_link()
    t = await task_supervisor.async_nolink(sup, fails("boom"))
    message = await erlang.receive(lambda message: isinstance(message, Down))
    value = await (await task_supervisor.async_nolink(sup, answer, 1))
    return [(message.ref is t.ref, message.reason), value, await mail()]


@program
async def sup_children() -> Any:
    sup = await TaskSupervisor.start_link()
    p = await task_supervisor.start_child(sup, hold)
    return [
        await task_supervisor.children(sup) == [p],
        await task_supervisor.terminate_child(sup, p),
        await task_supervisor.terminate_child(sup, p),
        await task_supervisor.children(sup),
        await end_of(p),
    ]


@program
async def sup_max_children() -> Any:
    sup = await TaskSupervisor.start_link(max_children=1)
    await task_supervisor.start_child(sup, hold)
    return [
        await error_of(task_supervisor.start_child(sup, answer, 1)),
        (await caught(lambda: task_supervisor.async_nolink(sup, answer, 1)))[0],
    ]


@program
async def sup_stream_nolink() -> Any:
    sup = await TaskSupervisor.start_link()

    async def body(i: int) -> int:
        return await boom_at_one(1 if i == 2 else i + 10) - 10

    return await listed(task_supervisor.async_stream_nolink(sup, [1, 2, 3], body))


@program
async def sup_restart() -> Any:
    sup, me = await TaskSupervisor.start_link(), erlang.self_()

    async def body() -> None:
        erlang.send(me, "ran")
        await hold()
        raise Exit("boom")

    await task_supervisor.start_child(sup, body, restart="transient")
    await erlang.receive(lambda message: message == "ran")
    [p] = await task_supervisor.children(sup)
    erlang.send(p, "go")
    again = await erlang.receive(lambda message: message == "ran", timeout=500)
    return "not" if again is TIMEOUT else "ran_again"


@program
async def sup_stop_ends_tasks() -> Any:
    sup = await TaskSupervisor.start_link()
    p = await task_supervisor.start_child(sup, hold)
    q = await task_supervisor.start_child(sup, trapping_for_ever, shutdown="brutal_kill")
    await erlang.sleep(20)
    refs = [erlang.monitor(p), erlang.monitor(q)]
    await supervisor.stop(sup)
    return [await down(p, refs[0]), await down(q, refs[1])]

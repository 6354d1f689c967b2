"""Programs of Elixir's `Task`."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

from runtime import (
    ExitMessage,
    TaskSupervisor,
    erlang,
    task,
    task_supervisor,
)
from tests.elixir.program import (
    answer,
    boom_at_one,
    caught,
    down,
    fails,
    hold,
    listed,
    mail,
    program,
    trapping_for_ever,
)

# ---- Task


@program
async def task_await() -> Any:
    t = task.async_(answer, 42)
    return [await t, await mail()]


@program
async def task_exit_not_trapping() -> Any:
    async def body() -> None:
        await task.async_(fails("boom"))

    return await down(*erlang.spawn_monitor(body))


@program
async def task_await_exit_trapping() -> Any:
    erlang.trap_exit(True)
    t = task.async_(fails("boom"))
    return [await caught(lambda: task.await_(t)), await mail()]


@program
async def task_await_timeout() -> Any:
    t = task.async_(answer, 1, 60)
    return [await caught(lambda: task.await_(t, 10)), await mail(100)]


@program
async def task_await_normal() -> Any:
    t = task.async_(fails("normal"))
    return await caught(lambda: task.await_(t))


@program
async def task_yield() -> Any:
    t = task.async_(answer, "done", 50)
    return [await task.yield_(t, 0), await task.yield_(t, 1000), await caught(lambda: task.yield_(t, 0))]


@program
async def task_yield_exit() -> Any:
    erlang.trap_exit(True)
    t = task.async_(fails("boom"))
    return [await task.yield_(t), len(await mail())]


@program
async def task_shutdown_running() -> Any:
    t = task.async_(hold)
    return [await task.shutdown(t), erlang.is_process_alive(t.pid), await mail()]


async def trapping(then: Callable[[], Any]) -> Any:
    erlang.trap_exit(True)
    message = await erlang.receive(
        lambda message: isinstance(message, ExitMessage) and message.reason == "shutdown"
    )
    assert message
    result = then()
    return await result if isawaitable(result) else result


@program
async def task_shutdown_brutal() -> Any:
    t = task.async_(trapping_for_ever)
    await erlang.sleep(20)
    return [await task.shutdown(t, "brutal_kill"), await mail()]


@program
async def task_shutdown_done() -> Any:
    t = task.async_(answer, 5)
    await erlang.sleep(20)
    return [await task.shutdown(t), await mail()]


@program
async def task_shutdown_exited() -> Any:
    erlang.trap_exit(True)
    t = task.async_(fails("boom"))
    await erlang.sleep(20)
    return [await task.shutdown(t), await mail()]


@program
async def task_shutdown_timeout() -> Any:
    t = task.async_(trapping_for_ever)
    await erlang.sleep(20)
    return [await task.shutdown(t, 20), await mail()]


@program
async def task_shutdown_trapping_answers() -> Any:
    t = task.async_(trapping, lambda: "bye")
    await erlang.sleep(20)
    return [await task.shutdown(t, 500), await mail()]


@program
async def task_shutdown_noconnection_like() -> Any:
    t = task.async_(trapping, fails("other"))
    erlang.trap_exit(True)
    await erlang.sleep(20)
    return [await task.shutdown(t, 500), await mail()]


@program
async def task_ignore() -> Any:
    a, b = task.async_(hold), task.async_(answer, 3)
    await erlang.sleep(20)
    results = [await task.ignore(a), await task.ignore(b), erlang.is_process_alive(a.pid)]
    erlang.send(a.pid, "go")
    return [*results, await mail()]


@program
async def task_ignore_exit() -> Any:
    erlang.trap_exit(True)
    t = task.async_(fails("boom"))
    await erlang.sleep(20)
    return [await task.ignore(t), await mail()]


@program
async def task_await_many() -> Any:
    tasks = [task.async_(answer, i, 30 - i * 8) for i in (1, 2, 3)]
    return [await task.await_many(tasks), await task.await_many([]), await mail()]


@program
async def task_await_many_exit() -> Any:
    erlang.trap_exit(True)
    tasks = [task.async_(hold), task.async_(fails("boom"))]
    return await caught(lambda: task.await_many(tasks))


@program
async def task_await_many_timeout() -> Any:
    erlang.trap_exit(True)
    return await caught(lambda: task.await_many([task.async_(answer, 1), task.async_(hold)], 20))


@program
async def task_yield_many() -> Any:
    erlang.trap_exit(True)
    tasks = [task.async_(answer, 1), task.async_(fails("boom")), task.async_(hold)]
    return [result for _, result in await task.yield_many(tasks, 50)]


@program
async def task_not_owner() -> Any:
    t, me = task.async_(hold), erlang.self_()

    async def other() -> None:
        erlang.send(me, ("result", await caught(lambda: task.await_(t))))

    erlang.spawn(other)
    return (await erlang.receive())[1][0]


@program
async def task_callers() -> Any:
    me = erlang.self_()

    def tell(what: str) -> None:
        erlang.send(
            me, (what, [p is me for p in erlang.get("$callers") or []], len(erlang.get("$ancestors") or []))
        )

    async def nested() -> None:
        await task.async_(lambda: erlang.send(me, ("nested", len(erlang.get("$callers")))))

    sup = await TaskSupervisor.start_link()
    assert sup is not None
    await task.async_(tell, "async")
    task.start(tell, "start")
    await erlang.sleep(20)
    await task.start_link(tell, "start_link")
    await erlang.sleep(20)
    await task_supervisor.start_child(sup, tell, "start_child")
    await erlang.sleep(20)
    await (await task_supervisor.async_(sup, tell, "sup_async"))
    await task.async_(nested)
    return await mail()


@program
async def task_start_link_crash() -> Any:
    erlang.trap_exit(True)
    pid = await task.start_link(fails("boom"))
    return (
        await erlang.receive(lambda message: isinstance(message, ExitMessage) and message.pid is pid)
    ).reason


async def slow(i: int) -> int:
    await erlang.sleep(i)
    return i


@program
async def task_async_stream() -> Any:
    async def first(i: int) -> int:
        return await answer(i, 40 - i * 9)

    async def second(i: int) -> int:
        return await answer(i, i * 30)

    return [
        await listed(task_supervisor.async_stream(None, range(1, 5), first)),
        await listed(task_supervisor.async_stream(None, [3, 1, 2], second, ordered=False, max_concurrency=3)),
        await mail(),
    ]


@program
async def task_async_stream_exit() -> Any:
    erlang.trap_exit(True)
    return [
        await listed(task_supervisor.async_stream(None, [1, 2], boom_at_one)),
        await listed(task_supervisor.async_stream(None, [1, 2], boom_at_one, zip_input_on_exit=True)),
        await mail(),
    ]


@program
async def task_async_stream_timeout() -> Any:
    def stream(zipped: bool) -> Any:
        return task_supervisor.async_stream(
            None, [1, 200], slow, timeout=60, on_timeout="kill_task", zip_input_on_exit=zipped
        )

    return [await listed(stream(False)), await listed(stream(True)), await mail()]


@program
async def task_async_stream_timeout_exit() -> Any:
    erlang.trap_exit(True)
    result = await caught(lambda: listed(task_supervisor.async_stream(None, [200], slow, timeout=20)))
    return [result, await mail()]


async def taken(stream: Any, count: int) -> list[Any]:
    got: list[Any] = []
    async for result in stream:
        got.append(result)
        if len(got) == count:
            break
    await stream.aclose()
    return got


@program
async def task_async_stream_concurrency() -> Any:
    me = erlang.self_()

    async def body(i: int) -> int:
        erlang.send(me, ("began", i))
        return await answer(i, 10)

    got = await taken(task_supervisor.async_stream(None, range(1, 7), body, max_concurrency=2), 2)
    return [got, len([m for m in await mail() if m[0] == "began"]) <= 4]


@program
async def task_async_stream_halted() -> Any:
    erlang.trap_exit(True)

    async def body(i: int) -> int:
        if i > 1:
            await hold()
        return i

    return [await taken(task_supervisor.async_stream(None, [1, 2, 3], body), 1), await mail()]


@program
async def task_async_stream_raise_not_trapping() -> Any:
    async def body() -> None:
        await listed(task_supervisor.async_stream(None, [1], boom_at_one))

    return await down(*erlang.spawn_monitor(body))


@program
async def task_completed() -> Any:
    t = task.completed(7)
    return [t.pid, await t, await mail()]


@program
async def task_nodedown() -> Any:
    erlang.trap_exit(True)

    async def lost() -> task.Task:
        t = task.async_(fails("noconnection"))
        await erlang.sleep(20)
        return t

    each = [await lost() for _ in range(6)]
    return [
        await caught(lambda: task.await_(each[0])),
        await caught(lambda: task.await_many([each[1]])),
        await caught(lambda: task.yield_(each[2])),
        await caught(lambda: task.yield_many([each[3]])),
        await caught(lambda: task.shutdown(each[4])),
        await caught(lambda: task.ignore(each[5])),
    ]

"""Programs of Elixir's `DynamicSupervisor`, `PartitionSupervisor`, `Supervisor`, and of starting a `GenServer`."""

from __future__ import annotations

from typing import Any

from runtime import (
    ChildSpec,
    DynamicSupervisor,
    Error,
    ExitMessage,
    PartitionSupervisor,
    Supervisor,
    Throw,
    dynamic_supervisor,
    erlang,
    gen_server,
    partition_supervisor,
    supervisor,
)
from tests.elixir.program import Echo, caught, done, down, error_of, fails, program, start_info

# ---- DynamicSupervisor


def spec(arg: Any, **fields: Any) -> ChildSpec:
    return ChildSpec(**{"id": "echo", "start": (Echo.start_link, (arg,)), **fields})


@program
async def dyn_start_child_results() -> Any:
    erlang.trap_exit(True)
    sup = await DynamicSupervisor.start_link()
    specs = [
        spec(1), spec("ignore"), spec(("stop", "why")), spec(("exit", "why")), spec("bad"), spec(("raise", "why")),
        spec(1, start=(start_info, (1,))),
    ]  # fmt: skip
    results = [await error_of(dynamic_supervisor.start_child(sup, one)) for one in specs]
    return [*results, await dynamic_supervisor.count_children(sup)]


@program
async def dyn_raising_start() -> Any:
    sup = await DynamicSupervisor.start_link()

    async def errs() -> None:
        raise Error("why")

    async def throws() -> None:
        raise Throw("why")

    async def adds() -> int:
        return 2

    start = [await error_of(dynamic_supervisor.start_child(sup, spec(1, start=(fn, ())))) for fn in
             (fails("why"), errs, throws, adds)]  # fmt: skip
    return [start[0], start[1], start[2][0], start[3]]


@program
async def dyn_bad_specs() -> Any:
    sup = await DynamicSupervisor.start_link()
    bad: list[dict[str, Any]] = [
        {"restart": "never"}, {"shutdown": -1}, {"significant": "maybe"}, {"modules": 7},
    ]  # fmt: skip
    return [await error_of(dynamic_supervisor.start_child(sup, spec(1, **fields))) for fields in bad]


@program
async def dyn_max_children() -> Any:
    sup = await DynamicSupervisor.start_link(max_children=1)
    first = await error_of(dynamic_supervisor.start_child(sup, spec(1)))
    return [first[0], await error_of(dynamic_supervisor.start_child(sup, spec(1)))]


@program
async def dyn_extra_arguments() -> Any:
    sup = await DynamicSupervisor.start_link(extra_arguments=["first"])
    p = await dynamic_supervisor.start_child(sup, spec("second"))
    return await gen_server.call(p, "get")


@program
async def dyn_terminate_child() -> Any:
    sup = await DynamicSupervisor.start_link()
    p = await dynamic_supervisor.start_child(sup, spec(1))
    ref = erlang.monitor(p)
    return [
        await dynamic_supervisor.terminate_child(sup, p),
        await dynamic_supervisor.terminate_child(sup, p),
        await dynamic_supervisor.terminate_child(sup, erlang.self_()),
        await down(p, ref),
        await dynamic_supervisor.which_children(sup),
    ]


@program
async def dyn_which_children() -> Any:
    sup = await DynamicSupervisor.start_link()
    await dynamic_supervisor.start_child(sup, spec(1))
    await dynamic_supervisor.start_child(sup, spec(1, type="supervisor", modules="dynamic"))
    rows = [("undefined", pid, kind, modules == "dynamic")
            for _, pid, kind, modules in await dynamic_supervisor.which_children(sup)]  # fmt: skip
    return [rows, await dynamic_supervisor.count_children(sup)]


@program
async def dyn_restart_and_give_up() -> Any:
    erlang.trap_exit(True)
    sup = await DynamicSupervisor.start_link(intensity=1, period=60)
    p = await dynamic_supervisor.start_child(sup, spec(1))
    erlang.exit(p, "kill")
    await erlang.sleep(30)
    [(_, q, _, _)] = await dynamic_supervisor.which_children(sup)
    erlang.exit(q, "kill")
    message = await erlang.receive(lambda message: isinstance(message, ExitMessage) and message.pid is sup)
    return [p is not q, message.reason]


@program
async def dyn_temporary_transient() -> Any:
    sup = await DynamicSupervisor.start_link()
    a = await dynamic_supervisor.start_child(sup, spec(1, restart="temporary"))
    b = await dynamic_supervisor.start_child(sup, spec(1, restart="transient"))
    erlang.exit(a, "kill")
    gen_server.cast(b, ("stop", ("shutdown", 1)))
    await erlang.sleep(30)
    return await dynamic_supervisor.count_children(sup)


@program
async def dyn_bad_init() -> Any:
    erlang.trap_exit(True)
    options: list[dict[str, Any]] = [
        {"max_children": -1},
        {"intensity": -1},
        {"period": 0},
        {"extra_arguments": 1},
    ]
    return [await error_of(DynamicSupervisor.start_link(**one)) for one in options]


@program
async def dyn_stop() -> Any:
    sup = await DynamicSupervisor.start_link()
    p = await dynamic_supervisor.start_child(sup, spec(1))
    ref = erlang.monitor(p)
    return [
        await done(dynamic_supervisor.stop(sup)), await down(p, ref), await caught(lambda: dynamic_supervisor.which_children(sup))
    ]  # fmt: skip


# ---- PartitionSupervisor


@program
async def part_basics() -> Any:
    await PartitionSupervisor.start_link(Echo.child_spec("x"), partitions=3, name="parts")

    async def pid(key: Any) -> Any:
        return await gen_server.call(partition_supervisor.via("parts", key), "self")

    rows = [row[:3] for row in await supervisor.which_children("parts")]
    return [
        partition_supervisor.partitions("parts"), await supervisor.count_children("parts"), await pid(1) is await pid(4),
        await pid(1) is await pid(2), await pid(-1) is await pid(1), await pid("a") is await pid("a"),
        sorted(rows, key=lambda row: row[0]), await done(supervisor.stop("parts")),
    ]  # fmt: skip


@program
async def part_with_arguments() -> Any:
    await PartitionSupervisor.start_link(
        Echo.child_spec("x"), partitions=2, name="parts2", with_arguments=lambda args, n: ((args[0], n),)
    )
    return [await gen_server.call(partition_supervisor.via("parts2", key), "get") for key in (0, 1)]


@program
async def part_missing() -> Any:
    return (await caught(lambda: gen_server.call(partition_supervisor.via("nobody", 1), "get")))[0]


@program
async def part_restart() -> Any:
    await PartitionSupervisor.start_link(Echo.child_spec("x"), partitions=2, name="parts3")
    via = partition_supervisor.via("parts3", 1)
    a = await gen_server.call(via, "self")
    erlang.exit(a, "kill")
    await erlang.sleep(30)
    return a is not await gen_server.call(via, "self")


# ---- GenServer and Supervisor


@program
async def gen_start_errors() -> Any:
    erlang.trap_exit(True)
    args: list[Any] = [
        1,
        "ignore",
        ("stop", "why"),
        ("exit", "why"),
        ("raise", "why"),
        ("throw", "why"),
        "bad",
    ]
    return [await error_of(Echo.start(arg)) for arg in args]


@program
async def sup_errors() -> Any:
    erlang.trap_exit(True)

    async def start(children: list[ChildSpec], **flags: Any) -> Any:
        return await error_of(
            Supervisor.start_link(children, **{"strategy": "one_for_one", "intensity": 3, **flags})
        )

    return [
        (await start([spec(1)]))[0], await start([spec(("stop", "why"))]), await start([spec(1), spec(2)]),
        await start([], intensity=-1), await start([], period=0), await start([]), await start([spec(1, restart="never")]),
        await start([spec(1, shutdown="never")]), await start([spec(1, type="thing")]),
        await start([spec(1, significant=True, restart="transient")]),
    ]  # fmt: skip


@program
async def sup_children_api() -> Any:
    sup = await Supervisor.start_link([spec(1, id="a"), spec(2, id="b", restart="transient")], intensity=3)
    return [
        [row[:3] for row in await supervisor.which_children(sup)], await supervisor.count_children(sup),
        await supervisor.terminate_child(sup, "a"), await supervisor.terminate_child(sup, "zz"),
        await supervisor.delete_child(sup, "b"), await supervisor.delete_child(sup, "a"),
        await supervisor.restart_child(sup, "a"),
        (await supervisor.start_child(sup, spec(3, id="b")))[1][0],
        tuple(part or "undefined" for part in await supervisor.start_child(sup, spec("ignore", id="c"))),
        tuple(part or "undefined" for part in await supervisor.restart_child(sup, "c")), await done(supervisor.stop(sup)),
    ]  # fmt: skip

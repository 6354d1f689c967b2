"""Programs of Elixir's `Registry`."""

from __future__ import annotations

from typing import Any

from runtime import (
    Registry,
    erlang,
    gen_server,
)
from runtime.otp.registry import ANY
from tests.elixir.program import (
    Echo,
    caught,
    done,
    error_of,
    hold,
    mail,
    program,
)

# ---- Registry


@program
async def reg_unique() -> Any:
    registry, me = Registry("unique"), erlang.self_()

    async def body() -> None:
        registry.register("b", 2)
        erlang.send(me, "ready")
        await hold()

    other = erlang.spawn(body)
    await erlang.receive(lambda message: message == "ready")
    results = [
        "ok" if registry.register("a", 1) is me else "error",
        await caught(lambda: registry.register("a", 1)), await caught(lambda: registry.register("b", 1)),
        registry.lookup("a"), registry.lookup("c"), registry.keys(me), registry.count(),
        registry.update_value("a", lambda n: n + 1), registry.update_value("b", lambda n: n + 1),
        registry.values("a", me), await done(registry.unregister("a")),
        await done(registry.unregister("zz")), registry.lookup("a"),
    ]  # fmt: skip
    erlang.send(other, "go")
    await erlang.sleep(30)
    return [*results, registry.lookup("b"), registry.count()]


@program
async def reg_duplicate() -> Any:
    registry, me = Registry("duplicate"), erlang.self_()
    for value in (1, 2, 3):
        registry.register("k", (value, "x"))
    registry.register("j", 9)
    return [
        registry.lookup("k"), sorted(map(str, registry.keys(me))), registry.match("k", (2, ANY)),
        registry.count_match("k", (ANY, "x")), registry.match("k", (ANY, ANY), lambda value: value[0] > 1),
        await done(registry.unregister_match("k", (1, ANY))), registry.values("k", me), registry.count(),
        sorted(registry.select(body=lambda key, _pid, value: (key, value)), key=str),
        registry.count_select(("k", ANY, ANY)), (await caught(lambda: registry.update_value("k", lambda n: n)))[0],
        await done(registry.unregister("k")), registry.lookup("k"), registry.lookup("j"),
    ]  # fmt: skip


@program
async def reg_via() -> Any:
    registry = Registry("unique")
    name = ("via", registry, "x")
    p = await Echo.start_link(1, name=name)
    q = await Echo.start_link(2, name=registry.via("y", "value"))
    assert p is not None
    again = await error_of(Echo.start_link(1, name=name))
    results = [
        await gen_server.call(name, "get"), again == ("error", ("already_started", p)), registry.lookup("y") == [(q, "value")],
        registry.lookup("x") == [(p, None)], gen_server.whereis(name) is p, gen_server.whereis(("via", registry, "none")),
    ]  # fmt: skip
    await gen_server.stop(p)
    await erlang.sleep(10)
    return [*results, registry.lookup("x"), await caught(lambda: gen_server.call(name, "get"))]


@program
async def reg_listeners() -> Any:
    erlang.register("listener", erlang.self_())
    registry = Registry("unique", listeners=["listener"])
    registry.register("a", 1)
    registry.unregister("a")
    erlang.spawn(lambda: registry.register("b", 2))
    await erlang.sleep(30)
    return [(message[0], *message[2:]) for message in await mail()]


@program
async def reg_meta() -> Any:
    registry = Registry("unique", meta={"colour": "red"})
    return [
        registry.meta("colour"), registry.meta("none"), registry.put_meta("size", 3), registry.meta("size"),
        registry.delete_meta("size"), registry.meta("size"),
    ]  # fmt: skip


@program
async def reg_dispatch() -> Any:
    registry, me = Registry("duplicate"), erlang.self_()
    registry.register("k", 1)
    registry.register("k", 2)
    return [
        await done(registry.dispatch("k", lambda entries: erlang.send(me, len(list(entries))))),
        await done(registry.dispatch("none", lambda _entries: erlang.send(me, "called"))),
        await mail(),
    ]


@program
async def reg_send() -> Any:
    registry = Registry("unique")
    registry.register("me", 1)
    return [
        registry.send("me", "hello"),
        await mail(),
        (await caught(lambda: registry.send("none", "hello")))[0],
    ]


@program
async def reg_keys_kinds() -> Any:
    registry, me = Registry("unique"), erlang.self_()
    return ["ok" if registry.register(key, key) is me else "error" for key in (1, True, "1", "a", (1, 2))]


@program
async def reg_bad_options() -> Any:
    wrong: Any = "other"
    return [
        (await caught(lambda: Registry(wrong)))[0],
        (await caught(lambda: Registry("unique", partitions=0)))[0],
    ]

"""Elixir's `Registry`: unique and duplicate keys, matches, listeners, and locks that wait."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import Error, GenServer, Registry, erlang, gen_server
from runtime.otp.gen_server import Reply
from runtime.otp.registry import ANY
from runtime.testing.simulation import play


@pytest.mark.parametrize("seed", range(20))
def test_one_at_a_time_in_the_order_of_asking(seed: int) -> None:
    registry, log = Registry(), list[Any]()

    async def hold(name: str, key: Any) -> None:
        async def work() -> str:
            log.append(("in", name))
            await erlang.sleep(10)
            log.append(("out", name))
            return name

        assert await registry.lock(key, work) == name

    async def body() -> None:
        pids = []
        for name in "abc":
            pids.append(erlang.spawn(hold, name, "k"))
            await erlang.sleep(1)
        for pid in pids:
            await erlang.await_down(pid)
        assert log == [(what, name) for name in "abc" for what in ("in", "out")]

    play(body, seed=seed)


def test_other_keys_are_free_and_1_is_not_true() -> None:
    registry, log = Registry(), list[Any]()

    async def hold(key: Any) -> None:
        async def work() -> None:
            log.append(key)
            await erlang.sleep(10)

        await registry.lock(key, work)

    async def body() -> None:
        for key in (1, True, 1.0, "k"):
            erlang.spawn(hold, key)
        await erlang.sleep(1)
        assert sorted(map(repr, log)) == ["'k'", "1", "1.0", "True"]

    play(body)


@pytest.mark.parametrize("end", ["kill", "boom"])
def test_whoever_ends_gives_it_back_and_whoever_ends_waiting_is_passed_over(end: str) -> None:
    registry, log = Registry(), list[Any]()

    async def hold(name: str) -> None:
        async def work() -> None:
            log.append(name)
            await erlang.receive()

        await registry.lock("k", work)

    async def body() -> None:
        first, second, third = (erlang.spawn(hold, name) for name in "abc")
        await erlang.sleep(1)
        pids = {"a": first, "b": second, "c": third}
        holder = pids.pop(log[0])
        waiting, last = pids.values()
        erlang.exit(waiting, end)
        erlang.exit(holder, end)
        await erlang.sleep(1)
        assert len(log) == 2 and erlang.is_process_alive(last)
        erlang.exit(last, end)
        await erlang.sleep(1)
        assert await registry.lock("k", lambda: "free") == "free"

    play(body)


def test_an_exception_gives_it_back() -> None:
    registry = Registry()

    async def body() -> None:
        with pytest.raises(ZeroDivisionError):
            await registry.lock("k", lambda: 1 / 0)
        assert await registry.lock("k", lambda: 7) == 7

    play(body)


async def forever() -> None:
    await erlang.receive(lambda _message: False)


def test_registry_unique_and_duplicate(play: Any) -> None:
    async def body() -> None:
        unique, duplicate = Registry(), Registry("duplicate")
        me, pid = erlang.self_(), erlang.spawn(forever)
        unique.register("k", 1)
        with pytest.raises(Error) as taken:
            unique.register("k", 2, pid)
        assert taken.value.reason == ("already_registered", me)
        assert unique.update_value("k", lambda value: value + 1) == (2, 1)
        for value in (1, 2):
            duplicate.register("k", value)
        duplicate.register("k", 3, pid)
        assert duplicate.lookup("k") == [(me, 1), (me, 2), (pid, 3)]
        duplicate.unregister("k")
        seen: list[Any] = []
        duplicate.dispatch("k", seen.extend)
        assert seen == [(pid, 3)]
        erlang.exit(pid, "kill")
        assert duplicate.lookup("k") == []
        assert (duplicate.count(), unique.count()) == (0, 1)
        assert unique.keys(me) == ["k"]

    play(body)


class Server(GenServer):
    def init(self, start: int) -> None:
        self.value = start

    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply((type(self).__name__, self.value))


async def mail() -> list[Any]:
    got: list[Any] = []
    while (message := await erlang.receive(timeout=0)) is not erlang.TIMEOUT:
        got.append(message)
    return got


def test_what_elixirs_registry_has() -> None:
    async def body() -> None:
        me = erlang.self_()
        registry = Registry("duplicate", name="reg", listeners=[me], partitions=4)
        registry.register("k", (1, "a"))
        registry.register("k", (2, "b"))
        registry.register(1, "one")
        assert registry.match("k", (ANY, "a")) == [(me, (1, "a"))]
        assert registry.match("k", (1.0, ANY)) == []
        assert registry.count_match("k", ANY, lambda value: value[0] > 1) == 1
        assert registry.values("k", me) == [(1, "a"), (2, "b")]
        assert registry.select((ANY, ANY, (ANY, "b")), body=lambda key, _pid, value: (key, value)) == [
            ("k", (2, "b"))
        ]
        assert registry.count_select((1, ANY, ANY)) == 1
        assert await registry.lock("k", lambda: 7) == 7
        registry.unregister_match("k", (1, ANY))
        assert registry.keys(me) == ["k", 1]
        assert await mail() == [
            ("register", "reg", "k", me, (1, "a")),
            ("register", "reg", "k", me, (2, "b")),
            ("register", "reg", 1, me, "one"),
            ("unregister", "reg", "k", me),
        ]
        unique = Registry()
        pid = await Server.start(1, name=unique.via("name", "value"))
        assert unique.lookup("name") == [(pid, "value")]
        assert await gen_server.call(unique.via("name"), "who") == ("Server", 1)
        erlang.exit(pid, "kill")
        assert unique.count() == 0
        for partitions in (0, True, "2"):
            with pytest.raises(ValueError, match="partitions"):
                Registry(partitions=partitions)  # type: ignore[arg-type]
        with pytest.raises(Error):
            unique.register("x", pid=pid)

    play(body)


def test_a_duplicate_registry_names_no_process() -> None:
    async def body() -> None:
        registry = Registry(keys="duplicate")
        registry.register("k", 1)
        for ask in (
            lambda: registry.whereis_name("k"),
            lambda: gen_server.whereis(registry.via("k")),
            lambda: registry.send("k", "x"),
        ):
            with pytest.raises(Error, match="badarg"):
                ask()

    play(body)

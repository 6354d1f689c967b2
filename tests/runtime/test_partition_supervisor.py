"""PartitionSupervisor: one child a partition, keys find theirs, also after a restart."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import gen_server, partition_supervisor, supervisor
from runtime.core.exits import CallSite, Exit
from runtime.otp import erlang
from runtime.otp.gen_server import GenServer, Reply, StartError, call
from runtime.otp.partition_supervisor import PartitionSupervisor, partition_of, partitions, via
from runtime.otp.supervisor import ChildSpec, count_children, which_children
from runtime.testing.simulation import play


class Keeper(GenServer):
    def init(self, number: int) -> None:
        self.number = number

    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply((self.number, erlang.self_()))


SPEC = ChildSpec("keeper", (Keeper.start_link, ("base",)))


def test_keys_find_their_partition(play: Any) -> None:
    async def body() -> None:
        sup = await PartitionSupervisor.start_link(SPEC, 3, lambda args, number: (number,), name="keepers")
        assert partitions("keepers") == 3
        assert [row[0] for row in await which_children(sup)] == [2, 1, 0]
        assert (await count_children(sup))["active"] == 3
        for key in (0, 1, 5, -4):
            assert (await call(via("keepers", key), "who"))[0] == abs(key) % 3
        number, pid = await call(via("keepers", "user-7"), "who")
        assert number == partition_of("user-7", 3)
        erlang.exit(pid, "kill")
        await erlang.sleep(10)
        again, other = await call(via("keepers", "user-7"), "who")
        assert again == number
        assert other is not pid

    play(body)


def test_by_default_all_get_the_same_arguments(play: Any) -> None:
    async def body() -> None:
        await PartitionSupervisor.start_link(SPEC, 2, name="keepers")
        assert (await call(via("keepers", 1), "who"))[0] == "base"

    play(body)


def test_no_supervisor_no_partition(play: Any) -> None:
    async def body() -> None:
        with pytest.raises(Exit) as nobody:
            await call(via("keepers", 1), "who")
        assert nobody.value.reason[0] == "noproc"
        # All as in Elixir 1.14: only cast is silent.
        for ask in (
            lambda: gen_server.whereis(via("keepers", 1)),
            lambda: partitions("keepers"),
        ):
            with pytest.raises(Exit) as nobody:
                ask()
            assert nobody.value.reason == (
                "noproc",
                CallSite("PartitionSupervisor", "partitions", ("keepers",)),
            )
        with pytest.raises(Exit):
            await gen_server.stop(via("keepers", 1))
        gen_server.cast(via("keepers", 1), "hello")
        with pytest.raises(StartError) as refused:
            await PartitionSupervisor.start_link(SPEC, 0)
        assert refused.value.reason[0] == ("invalid_partitions", 0)

    play(body)


def test_the_hash_is_the_same_in_every_run() -> None:
    assert [partition_of(key, 16) for key in ("a", "b", ("user", 7), None)] == [10, 9, 12, 1]


def test_partitions_are_fewer_and_more() -> None:
    async def body() -> None:
        await PartitionSupervisor.start_link(SPEC, 3, name="parts")
        assert await partition_supervisor.resize("parts", 1) == 3
        assert partition_supervisor.partitions("parts") == 1
        assert (await supervisor.count_children("parts"))["active"] == 1
        for key in range(5):
            assert await gen_server.call(partition_supervisor.via("parts", key), "who")
        assert await partition_supervisor.resize("parts", 3) == 1
        assert (await supervisor.count_children("parts"))["active"] == 3
        for number in (0, 4, True, 1.5):
            with pytest.raises(ValueError, match="expected 1 to 3"):
                await partition_supervisor.resize("parts", number)  # type: ignore[arg-type]

    play(body)

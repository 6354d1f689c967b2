"""PartitionSupervisor: one child a partition, keys find theirs, also after a restart."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.core.exits import Exit
from runtime.otp import erlang
from runtime.otp.gen_server import GenServer, Reply, StartError, call
from runtime.otp.partition_supervisor import PartitionSupervisor, partition_of, partitions, via
from runtime.otp.supervisor import ChildSpec, count_children, which_children


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
        with pytest.raises(Exit):
            partitions("keepers")
        with pytest.raises(StartError) as refused:
            await PartitionSupervisor.start_link(SPEC, 0)
        assert refused.value.reason[0] == ("invalid_partitions", 0)

    play(body)


def test_the_hash_is_the_same_in_every_run() -> None:
    assert [partition_of(key, 16) for key in ("a", "b", ("user", 7), None)] == [10, 9, 12, 1]

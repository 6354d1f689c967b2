"""The functions of each module that has supervisors work on the supervisors of all of them, and end none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runtime import (
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    PartitionSupervisor,
    Supervisor,
    TaskSupervisor,
    dynamic_supervisor,
    erlang,
    supervisor,
    task_supervisor,
)
from runtime.testing.simulation import play


class Server(GenServer):
    def init(self) -> None:
        pass


async def idle() -> None:
    await erlang.receive(lambda _message: False)


async def collected(stream: Any) -> list[Any]:
    return [result async for result in stream]


SPEC = ChildSpec("new", (Server.start_link, ()))
SUPERVISORS: dict[str, Callable[[], Awaitable[Any]]] = {
    "Supervisor": lambda: Supervisor.start_link([ChildSpec("one", (Server.start_link, ()))]),
    "simple_one_for_one": lambda: Supervisor.start_link(
        [ChildSpec("one", (Server.start_link, ()))], strategy="simple_one_for_one"
    ),
    "DynamicSupervisor": DynamicSupervisor.start_link,
    "TaskSupervisor": TaskSupervisor.start_link,
    "PartitionSupervisor": lambda: PartitionSupervisor.start_link(SPEC, 2, name="partitions"),
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "start_child": lambda sup: supervisor.start_child(sup, SPEC),
    "start_child of arguments": lambda sup: supervisor.start_child(sup, []),
    "terminate_child by pid": lambda sup: supervisor.terminate_child(sup, erlang.self_()),
    "terminate_child by id": lambda sup: supervisor.terminate_child(sup, "one"),
    "delete_child": lambda sup: supervisor.delete_child(sup, "one"),
    "restart_child": lambda sup: supervisor.restart_child(sup, "one"),
    "get_childspec": lambda sup: supervisor.get_childspec(sup, "one"),
    "which_children": supervisor.which_children,
    "count_children": supervisor.count_children,
    "children": supervisor.children,
    "dynamic start_child": lambda sup: dynamic_supervisor.start_child(sup, SPEC),
    "dynamic terminate_child": lambda sup: dynamic_supervisor.terminate_child(sup, erlang.self_()),
    "dynamic which_children": dynamic_supervisor.which_children,
    "dynamic count_children": dynamic_supervisor.count_children,
    "dynamic children": lambda sup: dynamic_supervisor.children(sup, 0, 10),
    "task start_child": lambda sup: task_supervisor.start_child(sup, idle),
    "task async_nolink": lambda sup: task_supervisor.async_nolink(sup, idle),
    "task children": task_supervisor.children,
    "task terminate_child": lambda sup: task_supervisor.terminate_child(sup, erlang.self_()),
    "task stream": lambda sup: collected(task_supervisor.async_stream_nolink(sup, [1], abs)),
}


@pytest.mark.parametrize("kind", SUPERVISORS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_it_is_answered_and_the_supervisor_lives(kind: str, function: str) -> None:
    async def body() -> None:
        sup = await SUPERVISORS[kind]()
        answered: list[Any] = []

        async def ask() -> None:
            try:
                answered.append(await FUNCTIONS[function](sup))
            except Exception as error:
                answered.append(error)

        await erlang.await_down(erlang.spawn(ask), 1000)
        assert answered and erlang.is_process_alive(sup)

    play(body)


def test_a_page_of_the_children_of_any_supervisor() -> None:
    async def body() -> None:
        specs = [ChildSpec(number, (Server.start_link, ())) for number in range(5)]
        fixed, dynamic = await Supervisor.start_link(specs), await DynamicSupervisor.start_link()
        for spec in specs:
            await dynamic_supervisor.start_child(dynamic, spec)
        for sup in (fixed, dynamic):
            page = await dynamic_supervisor.children(sup, 1, 2)
            assert [child.spec.id for child in page] == [1, 2]
            assert len(await supervisor.children(sup)) == len(await task_supervisor.children(sup)) == 5

    play(body)

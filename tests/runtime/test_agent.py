"""Elixir's `Agent`."""

from __future__ import annotations

import pytest

from runtime import Exit, StartError, agent, erlang, sys
from runtime.testing.simulation import play


def test_an_agent_keeps_a_value() -> None:
    async def body() -> None:
        pid = await agent.start_link(lambda: 1, name="agent")
        assert await agent.get("agent", lambda value: value) == 1
        assert await agent.update("agent", lambda value, by: value + by, 2) == "ok"
        assert await agent.get_and_update(pid, lambda value: (value, value * 10)) == 3
        agent.cast(pid, lambda value: value + 1)
        assert await sys.get_state(pid) == 31
        await agent.stop(pid)
        assert not erlang.is_process_alive(pid)

    play(body)


def test_what_an_agents_function_raises_ends_it_and_the_call() -> None:
    async def body() -> None:
        pid = await agent.start(dict)
        with pytest.raises(Exit) as caught:
            await agent.get(pid, lambda value: value["nothing"])
        assert isinstance(caught.value.reason[0][0], KeyError)
        pid = await agent.start(dict)
        with pytest.raises(Exit) as caught:
            await agent.get_and_update(pid, lambda value: value)
        assert caught.value.reason[0] == ("bad_return_value", {})
        with pytest.raises(StartError):
            await agent.start(lambda: 1 / 0)

    play(body)

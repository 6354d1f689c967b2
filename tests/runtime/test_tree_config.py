"""supervisor.toml: what is wrong with it is one line."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from runtime.otp.tree_config import TreeConfigError, parse


def import_name(name: str) -> None:
    raise ImportError(f"cannot import name {name!r} from 'runtime'\n(a second line)")


@pytest.mark.parametrize(
    ("start", "source"),
    [
        ("broken_actors:Actor", lambda: import_name("nothing_of_the_kind")),
        ("broken_actors:Actor", lambda: 1 / 0),
        (":Actor", None),
        ("..actors:Actor", None),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, start: str, source: Callable[[], Any] | None
) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            from importlib.machinery import ModuleSpec

            return ModuleSpec(name, Finder) if name == "broken_actors" else None  # type: ignore[arg-type]

        @staticmethod
        def create_module(spec: Any) -> None:
            return None

        @staticmethod
        def exec_module(module: ModuleType) -> None:
            assert source is not None
            source()

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    tree = {"supervisor": {"root": {"children": ["a"]}}, "worker": {"a": {"start": start}}}
    with pytest.raises(TreeConfigError, match=r"^supervisor.toml: \[worker.a\] start: .*") as caught:
        parse(tree)
    assert "\n" not in str(caught.value)
    assert start.split(":")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("root", "worker", "said"),
    [
        ('strategy = "One_For_One"', "", "did you mean 'one_for_one'?"),
        ('strategy = "simple_one_for_one"', "", "did you mean 'one_for_one'?"),
        ('auto_shutdown = "Never"', "", "did you mean 'never'?"),
        ("Intensity = 1", "", "did you mean 'intensity'?"),
        ("intensity = true", "", "0 or more, got True"),
        ("period = nan", "", "more than 0, got nan"),
        ("", 'restart = "PERMANENT"', "did you mean 'permanent'?"),
        ("", 'shutdown = "5000"', "got '5000'"),
        ("", "[worker.a.args]\nnosuch = 1", "unknown argument of NodesPubSub ("),
        ("", "[Worker.b]", "did you mean 'worker'?"),
        ("", "[worker.b]", 'expected "module:Class", got nothing'),
        ("", '[worker.b]\nstart = "runtime.phoenix.pg2:"', "got 'runtime.phoenix.pg2:'"),
        ("", '[worker.b]\nstart = "os:getcwd"', "no actor class in os (there is none)"),
    ],
)
def test_a_mistake_names_the_key_and_the_nearest_right_word(root: str, worker: str, said: str) -> None:
    start = 'start = "runtime.phoenix.pg2:NodesPubSub"'
    text = f'[supervisor.root]\n{root}\nchildren = ["a", "b"]\n[worker.a]\n{start}\n{worker}\n'
    with pytest.raises(TreeConfigError) as caught:
        parse(tomllib.loads(text))
    line = str(caught.value)
    key = (root or worker.splitlines()[-1]).partition(" =")[0]
    assert said in line and line.startswith("supervisor.toml: [") and key.strip("[]").split(".")[0] in line

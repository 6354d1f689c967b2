"""supervisor.toml: what is wrong with it is one line."""

from __future__ import annotations

import sys
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

"""Imports point down only, between floors and between rooms; the product uses the runtime by its public API.

Floors: api -> actors -> schema, and all -> runtime, which knows none of them. Rooms are the packages on a floor. An import counts
wherever it stands: inside a function and under `TYPE_CHECKING` as well.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "runtime": {"runtime"},
    "schema": {"schema"},
    "actors": {"actors", "schema", "runtime"},
    "api": {"api", "actors", "schema", "runtime"},
}
OURS = {*MAY_IMPORT, "tests", "bench"}

# The rooms of runtime/, lowest first; each may import what is named and nothing else on its floor.
ROOMS = {
    "core": set[str](),
    "otp": {"core"},
    "thespian": {"core"},
    "http": {"core", "otp"},
    "nodes": {"core", "otp"},
    "observe": {"core", "otp"},
    "phoenix": {"core", "otp", "http", "nodes"},
    "testing": {"core", "otp", "nodes"},
}

# Rooms that are packages of the public API beside `runtime` itself, which speaks for the others.
PUBLIC_ROOMS = ("http", "nodes", "observe", "phoenix", "testing")

# Parts of the control block. Others say `self.pid`, `self.now()`, `self.on_exit()`, and ask `runtime.observe`.
PRIVATE = {"cell", "execution", "relations", "own_execution", "own_relations", "own_rare", "_myRef"}


def modules(file: Path, types: bool = True) -> Iterator[str]:
    """The modules that a file imports, anywhere in it, relative imports resolved; without `types` those that are executed."""
    left: list[ast.AST] = [ast.parse(file.read_text(), str(file))]
    while left:
        node = left.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) if not types:
                left += node.orelse
                continue
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.ImportFrom(module=module, level=level, names=names) if level:
                place = list(file.relative_to(ROOT).parts[:-level]) if file.is_relative_to(ROOT) else []
                yield from (".".join([*place, *filter(None, [module]), name.name]) for name in names)
        left += ast.iter_child_nodes(node)


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {module.split(".")[0] for module in modules(file)}


def rooms_imported(file: Path) -> set[str]:
    """The rooms of runtime/ that a file imports; the public face is one of its own, above them all."""
    found = set[str]()
    for module in modules(file):
        floor, _, rest = module.partition(".")
        if floor == "runtime":
            room = rest.split(".")[0]
            found.add(room if room in ROOMS else "the public face")
    return found


def privates_touched(file: Path) -> set[str]:
    """The parts of the control block that a file reads or writes."""
    tree = ast.parse(file.read_text(), str(file))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & PRIVATE


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_down_only(package: str) -> None:
    wrong = {
        str(file.relative_to(ROOT)): upward
        for file in sorted((ROOT / package).rglob("*.py"))
        if (upward := (imported(file) & OURS) - MAY_IMPORT[package])
    }
    assert wrong == {}


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_of_the_runtime_imports_one_above_it(room: str) -> None:
    wrong = {
        str(file.relative_to(ROOT)): upward
        for file in sorted((ROOT / "runtime" / room).rglob("*.py"))
        if (upward := rooms_imported(file) - ROOMS[room] - {room})
    }
    assert wrong == {}


def test_every_room_of_the_runtime_is_listed() -> None:
    there = {path.parent.name for path in (ROOT / "runtime").glob("*/__init__.py")}
    assert there <= set(ROOMS)


PRODUCT = ("actors", "api", "schema", "examples")


@pytest.mark.parametrize("floor", PRODUCT)
def test_the_control_block_is_private_to_the_runtime(floor: str) -> None:
    wrong = {
        str(file.relative_to(ROOT)): touched
        for file in sorted((ROOT / floor).rglob("*.py"))
        if (touched := privates_touched(file))
    }
    assert wrong == {}


def private_imports(file: Path) -> set[str]:
    """The private names and modules (with an underscore) that a file imports out of another room than its own."""
    room = file.relative_to(ROOT).parts[:2]
    found = set[str]()
    for module in modules(file):
        parts = module.split(".")
        private = any(part.startswith("_") and not part.startswith("__") for part in parts)
        if private and parts[0] in MAY_IMPORT and tuple(parts[:2]) != room:
            found.add(module)
    return found


@pytest.mark.parametrize("floor", [*MAY_IMPORT, "examples"])
def test_what_has_an_underscore_stays_in_its_room(floor: str) -> None:
    wrong = {
        str(file.relative_to(ROOT)): taken
        for file in sorted((ROOT / floor).rglob("*.py"))
        if (taken := private_imports(file))
    }
    assert wrong == {}


def exported(package: str) -> set[str]:
    """What a package of the runtime lists in `__all__`."""
    for node in ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return set(ast.literal_eval(value))
    return set()


EXPORTED = {
    package: exported(package) for package in ("runtime", *(f"runtime.{room}" for room in PUBLIC_ROOMS))
}


def internals_imported(text: str) -> set[str]:
    """The names that a program imports from the runtime and that are not public.

    Public is what `runtime` or one of PUBLIC_ROOMS exports, and what is in a module that one of PUBLIC_ROOMS exports.
    """
    found = set[str]()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names if name.name.partition(".")[0] == "runtime"}
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] == "runtime":
                room, _, part = module.rpartition(".")
                if room == "runtime" or part not in EXPORTED.get(room, ()):
                    public = EXPORTED.get(module, set())
                    found |= {f"{module}.{name.name}" for name in names if name.name not in public}
    return found


@pytest.mark.parametrize("floor", PRODUCT)
def test_the_product_imports_what_the_runtime_exports(floor: str) -> None:
    wrong = {
        str(file.relative_to(ROOT)): internal
        for file in sorted((ROOT / floor).rglob("*.py"))
        if (internal := internals_imported(file.read_text()))
    }
    assert wrong == {}


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_the_documents_import_what_the_runtime_exports(document: Path) -> None:
    programs = re.findall(r"^```python[^\n]*\n(.*?)^```", document.read_text(), re.M | re.S)
    imports = [
        line for program in programs for line in program.splitlines() if line.startswith(("from ", "import "))
    ]
    assert internals_imported("\n".join(imports)) == set()


BREACHES = {
    "a room imports one above it": ("runtime/core/pid.py", "import runtime.otp.gen"),
    "and under TYPE_CHECKING": (
        "runtime/core/pid.py",
        "if TYPE_CHECKING:\n    from runtime.otp.gen import Call",
    ),
    "and inside a function": ("runtime/otp/agent.py", "def f():\n    from runtime.phoenix import Channel"),
    "and by a relative import": ("runtime/http/body.py", "from ..phoenix import socket"),
    "and by the public face": ("runtime/core/pid.py", "from runtime import GenServer"),
    "the runtime imports the product": ("runtime/phoenix/endpoint.py", "from actors import settings"),
    "actors import the API": ("actors/channels.py", "from api.context import Context"),
    "a room of the API imports one above it": ("api/http/request.py", "from api.resources import tasks"),
    "a room of the actors imports one above it": (
        "actors/storage/listener.py",
        "from actors.ledger.writer import DbWriter",
    ),
    "what lies below all rooms imports one": (
        "actors/server_state.py",
        "from actors.storage.repo import Repo",
    ),
    "a file imports itself": ("runtime/otp/restart.py", "import runtime.otp.restart"),
    "a private of the control block is read": ("actors/channels.py", "def f(pid):\n    return pid.cell"),
    "or written": ("api/app.py", "def f(process):\n    process._myRef = None"),
    "a private name is imported from another room": ("actors/endpoint.py", "from runtime.otp.gen import _x"),
    "the product imports an internal module": ("actors/endpoint.py", "from runtime.otp.erlang import send"),
    "and in a function": ("api/context.py", "def f():\n    from runtime.core.pid import Pid"),
    "and a module": ("examples/counter.py", "import runtime.core.pid"),
    "a module that its room does not export": ("api/app.py", "from runtime.phoenix.frames import Frame"),
    "a name that its room does not export": ("api/app.py", "from runtime.phoenix import LongPollSession"),
}


def check_all() -> None:
    """Every rule over the tree at ROOT."""
    for package in MAY_IMPORT:
        test_imports_point_down_only(package)
    for room in ROOMS:
        test_no_room_of_the_runtime_imports_one_above_it(room)
    for floor in PRODUCT:
        test_the_control_block_is_private_to_the_runtime(floor)
        test_the_product_imports_what_the_runtime_exports(floor)
    for floor in (*MAY_IMPORT, "examples"):
        test_what_has_an_underscore_stays_in_its_room(floor)
    for floor in ORDER:
        test_in_rooms_imports_point_down_only_too(floor)
    for package in MAY_IMPORT:
        test_no_module_imports_itself_by_way_of_others(package)


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_each_rule_is_found(breach: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, line = BREACHES[breach]
    text = (ROOT / name).read_text()
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file.write_text(text)
    check_all()
    file.write_text(f"{text}\n{line}\n")
    with pytest.raises((AssertionError, pytest.fail.Exception), match=name):
        check_all()


def test_the_rules_see_what_breaks_them(tmp_path: Path) -> None:
    file = tmp_path / "piece.py"
    file.write_text(
        "import actors.storage.repo as r\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from runtime.otp.gen import Call\n"
        "def f(pid):\n    from api.app import App\n    from runtime import otp\n    return pid.cell.relations.name\n"
    )
    assert imported(file) == {"actors", "api", "runtime", "typing"}
    assert rooms_imported(file) == {"otp"}
    assert privates_touched(file) == {"cell", "relations"}


# ---- the rooms of api/ and actors/, and the files of every floor

# A room imports from those before it and from itself. Some are files; what is not named lies below them all.
ORDER = {
    "actors": (
        "storage",
        "ledger",
        "channels",
        "bridges",
        "endpoint",
        "cluster",
        "observer",
        "token_expiry",
    ),
    "api": (
        "version",
        "http",
        "security",
        "context",
        "sockets",
        "pages",
        "resources",
        "operators",
        "app",
        "cli",
    ),
}


def room_of(module: str, floor: str) -> str | None:
    """The room of a module on a floor, None for others."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if package == floor else None


@pytest.mark.parametrize("floor", ORDER)
def test_in_rooms_imports_point_down_only_too(floor: str) -> None:
    rooms = ORDER[floor]
    wrong: set[tuple[str, str]] = set()
    for file in sorted((ROOT / floor).rglob("*.py")):
        mine = file.relative_to(ROOT / floor).parts[0].removesuffix(".py")
        for module in modules(file):
            room = room_of(module, floor)
            if room in rooms and (mine not in rooms or rooms.index(room) > rooms.index(mine)):
                wrong.add((str(file.relative_to(ROOT)), module))
    assert wrong == set()


@pytest.mark.parametrize("floor", MAY_IMPORT)
def test_no_module_imports_itself_by_way_of_others(floor: str) -> None:
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in (ROOT / floor).rglob("*.py")
    }
    graph = {
        name: {
            known
            # A pid, its process and its engine are typed by each other.
            for module in modules(file, types=floor != "runtime")
            for known in ((module,) if module in files else (module.rpartition(".")[0],))
            if known in files
        }
        for name, file in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        pytest.fail(" -> ".join(str(files[name].relative_to(ROOT)) for name in circle))

"""supervisor.toml: the supervision tree as a file, validated before anything starts.

    [supervisor.root]                       [worker.ledger]
    strategy = "rest_for_one"               start    = "actors.ledger:LedgerServer"
    intensity = 3                           restart  = "permanent"
    period = 5            # seconds         shutdown = 5000        # ms, "brutal_kill" or "infinity"
                                            backoff  = { min = 100, max = 5000, reset_after = 10000 }   # ms; an extension
    children = ["ledger", "channels"]       [worker.ledger.args]   # keyword arguments of its init
                                            [dynamic_supervisor.channels]
                                            max_children = 100000

Each process is registered under the name of its table. `load` raises `TreeConfigError` with a message of one line: file, table,
key, what was expected, and the nearest valid spelling.
"""

from __future__ import annotations

import importlib
import inspect
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any, Final

from runtime.core.pid import Pid
from runtime.otp.backoff import Backoff
from runtime.otp.child_spec import AUTO_SHUTDOWNS, RESTARTS
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.gen_server import GenServer
from runtime.otp.supervisor import ChildSpec, Supervisor, SupFlags

KINDS: Final = ("supervisor", "dynamic_supervisor", "worker")
_AS_CHILD: Final = ("restart", "shutdown", "significant", "backoff")
_KEYS: Final = {
    "supervisor": ("strategy", "intensity", "period", "auto_shutdown", "children", *_AS_CHILD),
    "dynamic_supervisor": ("max_children", "intensity", "period", *_AS_CHILD),
    "worker": ("start", "args", *_AS_CHILD),
}
_STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one")


class TreeConfigError(Exception):
    """The file is invalid; the message is one line that says where and what was expected."""


@dataclass(frozen=True, slots=True)
class ConfiguredProcess:
    """A table of the file."""

    kind: str
    name: str
    table: Mapping[str, Any]
    actor: type[GenServer] | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """A validated supervisor.toml."""

    nodes: Mapping[str, ConfiguredProcess]
    root: str = "root"

    def spec(self, name: str) -> ChildSpec:
        """The child spec of a process by its name in the file."""
        node = self.nodes[name]
        table = node.table
        return ChildSpec(
            name,
            (self._start, (name,)),
            table.get("restart", "permanent"),
            table.get("shutdown"),
            "worker"
            if node.kind == "worker" and getattr(node.actor, "kind", "") != "supervisor"
            else "supervisor",
            table.get("significant", False),
            (f"{node.actor.__module__}:{node.actor.__qualname__}",) if node.actor else (),
            Backoff(**table["backoff"]) if "backoff" in table else None,
        )

    async def start_link(self) -> Pid | None:
        """Starts the tree in order and returns the pid of the root. Raises StartError if a process fails to start."""
        return await self._start(self.root)

    async def _start(self, name: str) -> Pid | None:
        node = self.nodes[name]
        table = node.table
        flags = {
            key: table[key] for key in ("strategy", "intensity", "period", "auto_shutdown") if key in table
        }
        match node.kind:
            case "supervisor":
                children = [self.spec(child) for child in table.get("children", ())]
                return await Supervisor.start_link(children, SupFlags(**flags), name=name)
            case "dynamic_supervisor":
                return await DynamicSupervisor.start_link(table.get("max_children"), **flags, name=name)
            case _:
                assert node.actor is not None
                return await node.actor.start_configured(name, table.get("args", {}))


def load(path: str | Path, root: str = "root") -> Tree:
    """Reads and validates the file. Raises TreeConfigError."""
    file = Path(path)
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise TreeConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TreeConfigError(f"{file}: not valid TOML: {error}") from None
    return parse(data, file.name, root)


def parse(data: Mapping[str, Any], file: str = "supervisor.toml", root: str = "root") -> Tree:
    """As `load`, for parsed TOML."""
    nodes: dict[str, ConfiguredProcess] = {}
    for kind, tables in data.items():
        if kind not in KINDS:
            raise TreeConfigError(f"{file}: [{kind}]: unknown table{_expected(kind, KINDS)}")
        if not isinstance(tables, Mapping):
            raise TreeConfigError(f"{file}: [{kind}]: expected tables of the form [{kind}.NAME]")
        for name, table in tables.items():
            if not isinstance(table, Mapping):
                raise TreeConfigError(f"{file}: [{kind}] {name}: expected a table [{kind}.{name}]")
            if name in nodes:
                raise TreeConfigError(
                    f"{file}: [{kind}.{name}]: the name is taken by [{nodes[name].kind}.{name}] already"
                )
            where = f"{file}: [{kind}.{name}]"
            _check_table(where, kind, table)
            actor = _import_actor(where, table) if kind == "worker" else None
            nodes[name] = ConfiguredProcess(kind, name, table, actor)
    _check_shape(file, nodes, root)
    return Tree(nodes, root)


def _expected(got: Any, allowed: Iterable[str]) -> str:
    names = list(allowed)
    if not names:
        return " (there is none)"
    plain = {name.lower(): name for name in names}
    close = get_close_matches(got.lower(), plain, 1) if isinstance(got, str) else []
    near = [plain[each] for each in close]
    return f" (expected one of {', '.join(names)}{f'; did you mean {near[0]!r}?' if near else ''})"


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)  # TOML has no null


def _check_table(where: str, kind: str, table: Mapping[str, Any]) -> None:
    for key in table:
        if key not in _KEYS[kind]:
            raise TreeConfigError(f"{where} {key}: unknown key{_expected(key, _KEYS[kind])}")
    if kind == "supervisor":
        _one_of(where, table, "strategy", _STRATEGIES)
        _one_of(where, table, "auto_shutdown", AUTO_SHUTDOWNS)
        children = table.get("children")
        if not isinstance(children, list) or not all(isinstance(child, str) for child in children):
            raise TreeConfigError(f"{where} children: expected a list of names, got {_shown(children)}")
    _one_of(where, table, "restart", RESTARTS)
    _number(where, table, "intensity", int, 0, "a whole number, 0 or more")
    _number(where, table, "period", (int, float), 1e-9, "seconds, more than 0")
    _number(where, table, "max_children", int, 1, "a whole number, 1 or more")
    shutdown = table.get("shutdown", 0)
    if shutdown not in ("brutal_kill", "infinity") and (not _is_number(shutdown, int) or shutdown < 0):
        raise TreeConfigError(
            f'{where} shutdown: expected milliseconds, "brutal_kill" or "infinity", got {shutdown!r}'
        )
    if not isinstance(table.get("significant", False), bool):
        raise TreeConfigError(f"{where} significant: expected true or false, got {table['significant']!r}")
    if table.get("significant") and table.get("restart", "permanent") == "permanent":
        raise TreeConfigError(f"{where} significant: a permanent child cannot be significant")
    if "backoff" in table:
        _check_backoff(f"{where} backoff", table["backoff"])
    if not isinstance(table.get("args", {}), Mapping):
        raise TreeConfigError(f"{where} args: expected a table {where.split(': ')[1][:-1]}.args]")


def _check_backoff(where: str, backoff: Any) -> None:
    names = [each.name for each in fields(Backoff)]
    if not isinstance(backoff, Mapping):
        raise TreeConfigError(f"{where}: expected a table of {', '.join(names)}, got {backoff!r}")
    for key in backoff:
        if key not in names:
            raise TreeConfigError(f"{where}.{key}: unknown key{_expected(key, names)}")
    problem = Backoff(**backoff).problem()
    if problem is not None:
        raise TreeConfigError(f"{where}: {problem}")


def _one_of(where: str, table: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> None:
    if key in table and table[key] not in allowed:
        raise TreeConfigError(f"{where} {key}: {table[key]!r} is wrong{_expected(table[key], allowed)}")


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _number(where: str, table: Mapping[str, Any], key: str, kind: Any, least: float, text: str) -> None:
    if key in table and (not _is_number(table[key], kind) or not least <= table[key] < inf):  # TOML has NaN
        raise TreeConfigError(f"{where} {key}: expected {text}, got {table[key]!r}")


def _import_actor(where: str, table: Mapping[str, Any]) -> type[GenServer]:
    start = table.get("start")
    if not isinstance(start, str) or not all(start.partition(":")) or start.count(":") != 1:
        raise TreeConfigError(f'{where} start: expected "module:Class", got {_shown(start)}')
    module_name, class_name = start.split(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise TreeConfigError(f"{where} start: no module {error.name!r} (from {start!r})") from None
    except Exception as error:  # an import may raise anything
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise TreeConfigError(f"{where} start: {module_name!r} cannot be imported: {problem}") from error
    actor = getattr(module, class_name, None)
    if not (isinstance(actor, type) and issubclass(actor, GenServer)):
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, GenServer)]
        what = "is no actor class" if actor is not None else "does not exist"
        raise TreeConfigError(
            f"{where} start: {class_name!r} {what} in {module_name}{_expected(class_name, classes)}"
        )
    _check_args(where, actor, table.get("args", {}))
    return actor


def _check_args(where: str, actor: type[GenServer], args: Mapping[str, Any]) -> None:
    parameters = inspect.signature(actor.init).parameters
    names = [
        n
        for n, p in parameters.items()
        if n != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in args:
        if key not in names and not anything:
            raise TreeConfigError(
                f"{where} args.{key}: unknown argument of {actor.__name__}{_expected(key, names)}"
            )
    for name in names:
        if parameters[name].default is inspect.Parameter.empty and name not in args:
            raise TreeConfigError(f"{where} args.{name}: missing; {actor.__name__} needs it")


def _check_shape(file: str, nodes: Mapping[str, ConfiguredProcess], root: str) -> None:
    """Checks that every process is a child of exactly one supervisor, below the root."""
    if root not in nodes or nodes[root].kind != "supervisor":
        raise TreeConfigError(f"{file}: [supervisor.{root}]: missing; it is the top of the tree")
    above: dict[str, str] = {}
    for node in nodes.values():
        where = f"{file}: [supervisor.{node.name}] children"
        for child in node.table.get("children", ()) if node.kind == "supervisor" else ():
            if child not in nodes:
                raise TreeConfigError(f"{where}: unknown child {child!r}{_expected(child, nodes)}")
            if child == root:
                raise TreeConfigError(f"{where}: {root!r} is the top of the tree and no child (a cycle)")
            if child in above:
                what = "twice here" if above[child] == node.name else f"under [supervisor.{above[child]}] too"
                raise TreeConfigError(f"{where}: {child!r} stands {what}; a child has one supervisor")
            above[child] = node.name
    for name, node in nodes.items():
        seen: set[str] = set()
        at = name
        while at != root:
            if at in seen:
                raise TreeConfigError(f"{file}: [{node.kind}.{name}]: stands in a cycle of supervisors")
            seen.add(at)
            if at not in above:
                raise TreeConfigError(
                    f"{file}: [{nodes[at].kind}.{at}]: stands under no supervisor's children"
                )
            at = above[at]
        parent = nodes[above[name]] if name in above else None
        if parent and node.table.get("significant") and parent.table.get("auto_shutdown", "never") == "never":
            raise TreeConfigError(
                f"{file}: [{node.kind}.{name}] significant: needs auto_shutdown in [supervisor.{parent.name}]"
            )

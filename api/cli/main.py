"""The command `bitnexus`: its arguments, and the subcommands that start a module.

Errors are one line on standard error and exit code 1, or 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import asyncpg

from actors import settings as settings_module
from actors.settings import Settings
from actors.storage.failures import reason
from api.cli import data
from api.cli.database import ONE_LINE, CommandError, complain
from api.version import VERSION

STDERR = 2  # the last of the standard streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    open_standard_streams()
    # Not every terminal has the characters that a tree is drawn with.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        options.faults = faults = []
        examined = options.command == "doctor"  # which reports wrong settings among its findings
        settings = settings_module.load(any_secret=examined, faults=faults if examined else None)
        settings_module.use(settings)
        return options.run(settings, options)
    except (CommandError, *ONE_LINE) as error:
        return complain(error)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return complain(f"the database refused this: {reason(error)}")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk under the output, above all
        return complain(error)


def open_standard_streams() -> None:
    """Opens those that are closed on /dev/null: a socket would get the number, and libuv ends the process when it closes one."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(opened, True)
    os.close(opened)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _parsed(arguments: Sequence[str]) -> Any:
    top = parser()
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError:
        top.error("expected arguments in UTF-8")
    return top.parse_args(arguments)


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments on one line, without the usage; exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    top = _Parser(prog="bitnexus", description="BitNexus: a supervised actor runtime and the service on it.")
    top.add_argument("--version", action="version", version=f"bitnexus {VERSION}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Settings, Any], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    made = command("serve", _serve, "Start the server, and serve until Ctrl-C or SIGTERM.")
    made.add_argument(
        "--tree",
        type=Path,
        metavar="FILE",
        help="supervision tree (default: supervisor.toml in this directory, else BitNexus's own)",
    )
    made.add_argument(
        "--nodes",
        type=whole(1, 64),
        metavar="N",
        help="number of server processes on one port (default: NODES, else 1)",
    )
    command(
        "upgrade",
        _upgrade,
        "Replace the servers of `serve --nodes` one by one, without a failed request.",
    )
    command("migrate", data.migrate, "Bring the database schema up to date.")
    command("config", _config, "Show every setting, its value and where it came from; secrets are masked.")
    made = command(
        "doctor",
        _doctor,
        "Check settings, port, database, keys, NATS and Go services, and say how to fix what is wrong.",
    )
    made.add_argument("--token", help="also check this access token (- reads it from standard input)")

    made = command("psql", data.psql, "Open psql on the configured database, embedded or not.")
    made.add_argument("-c", dest="sql", metavar="SQL", help="run this statement and exit")

    made = command("demo", _demo, "Record transactions on the running server, and print each step.")
    made.add_argument("--url", help="base URL of the server (default: HOST and PORT)")
    made.add_argument("--email", help="sign in as this user (default: a demo user is created)")
    made.add_argument("--password", help="that user's password (- reads it from standard input)")
    made.add_argument(
        "--count", type=whole(1), default=3, metavar="N", help="number of transactions (default: 3)"
    )

    _operators(command)
    _data(commands)
    return top


def _data(commands: Any) -> None:
    user = commands.add_parser("user", help="Manage users.").add_subparsers(required=True, metavar="ACTION")
    text = "Create a user and print it as JSON."
    made = user.add_parser("create", help=text, description=text)
    made.add_argument("email", metavar="EMAIL")
    made.add_argument(
        "--password",
        help="- reads it from standard input; by default it is prompted for (command lines are visible to other users)",
    )
    made.add_argument(
        "--role", default="user", choices=("user", "admin", "service"), help="the user's role (default: user)"
    )
    made.add_argument("--name", default="", help="the user's full name")
    made.set_defaults(run=data.create_user)

    ledger = commands.add_parser("ledger", help="Check the ledger.").add_subparsers(
        required=True, metavar="ACTION"
    )
    text = "Check every row, entry and hash; if one is wrong, print the first and exit with 1."
    made = ledger.add_parser("verify", help=text, description=text)
    made.set_defaults(run=data.verify_ledger)


def _operators(command: Callable[..., argparse.ArgumentParser]) -> None:
    def operator(name: str, text: str) -> argparse.ArgumentParser:
        made = command(name, _operate, text)
        made.add_argument("--url", help="base URL of the server (default: HOST and PORT, without sign-in)")
        made.add_argument("--email", help="sign in as this admin")
        made.add_argument(
            "--password", help="that admin's password (- reads it from standard input; default: prompt)"
        )
        made.add_argument("--node", help="name of the node, or the beginning of it (see: bitnexus nodes)")
        return made

    made = operator("nodes", "Print the nodes of the cluster, their state, and the links between them.")
    made.add_argument("--json", action="store_true", help="print JSON")
    operator("observer", "Show the live tree, processes, statistics and crash log in the terminal.")
    made = operator("tree", "Print the supervision tree, of all nodes or of one.")
    made.add_argument("root", nargs="?", default="root", help="name or pid to start from (default: root)")
    made.add_argument(
        "--limit",
        type=whole(0, 1000),
        default=10,
        metavar="N",
        help="children of a dynamic supervisor to show (default: 10)",
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    made = operator("ps", "Print the process table, of all nodes or of one.")
    made.add_argument(
        "--sort",
        default="reductions",
        choices=("reductions", "message_queue_len", "memory", "restarts", "name", "module"),
        help="column to sort by (default: reductions)",
    )
    made.add_argument(
        "--limit", type=whole(1, 500), default=30, metavar="N", help="number of processes (default: 30)"
    )
    made.add_argument("--name", help="only processes whose name contains this")
    made.add_argument("--module", help="only processes whose module contains this")
    made.add_argument("--json", action="store_true", help="print JSON")
    _actions(operator)


def _actions(operator: Callable[[str, str], argparse.ArgumentParser]) -> None:
    for name, text in (
        ("kill", "Kill a process; its supervisor restarts it."),
        ("restart", "Stop a process and start it again, by its supervisor."),
        ("suspend", "Suspend a process: its messages wait."),
        ("resume", "Resume a suspended process."),
    ):
        operator(name, text).add_argument("pid", help="pid (0.17.0) or registered name")
    made = operator("trace", "Print the next messages of a process.")
    made.add_argument("pid", help="pid (0.17.0) or registered name")
    made.add_argument(
        "-n", dest="messages", type=whole(1, 1000), default=10, metavar="N", help="how many (default: 10)"
    )
    made.add_argument(
        "--seconds", type=seconds, default=10.0, metavar="N", help="how long (default: 10, at most 60)"
    )
    made = operator("drain", "Close the sockets of a node in batches; their clients reconnect elsewhere.")
    made.add_argument(
        "--per-second", type=whole(1), default=1000, metavar="N", help="sockets a second (default: 1000)"
    )
    made.add_argument(
        "--seconds",
        type=seconds,
        default=30.0,
        metavar="N",
        help="after which the rest is closed at once (default: 30, at most 60)",
    )


def seconds(text: str) -> float:
    """Parses a number of seconds within the server's limits. Raises ArgumentTypeError, which says what is allowed."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError(
            f"invalid seconds value: {text!r}, expected more than 0 and at most 60"
        )
    return value


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers within these bounds. It raises ArgumentTypeError, which says what is allowed."""
    allowed = f"{low} or more" if high is None else f"from {low} to {high}"

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            number = None
        else:
            number = int(text)
        if number is None or number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number, {allowed}")
        return number

    return read


# ---- commands


def _operate(settings: Settings, options: Any) -> int:
    from api.cli import operator_client

    if options.command == "observer":
        try:
            from api.cli import observer_tui
        except ImportError:
            raise CommandError(
                "observer needs the package textual: pip install 'bitnexus[observer]'"
            ) from None
        return asyncio.run(observer_tui.run(settings, options))
    from api.cli import cluster_view

    run = {
        "nodes": cluster_view.nodes,
        "tree": operator_client.tree,
        "ps": operator_client.ps,
        "trace": operator_client.trace,
        "drain": operator_client.drain,
    }
    return asyncio.run(run.get(options.command, operator_client.act)(settings, options))


def _serve(settings: Settings, options: Any) -> int:
    nodes = settings.nodes if options.nodes is None else options.nodes
    if nodes > 1:
        from api.cli import serve_nodes

        settings = replace(settings, nodes=nodes)
        settings_module.use(settings)
        return serve_nodes.run(settings, options.tree)
    from api.cli import serve

    return serve.run(settings, options.tree)


def _upgrade(settings: Settings, options: Any) -> int:
    from api.cli import serve_nodes

    return serve_nodes.upgrade(settings)


def _demo(settings: Settings, options: Any) -> int:
    from api.cli import demo as demo_run

    return asyncio.run(demo_run.run(settings, options))


def _doctor(settings: Settings, options: Any) -> int:
    from api.cli import doctor

    given = options.token
    return asyncio.run(doctor.run(settings, sys.stdin.read() if given == "-" else given, options.faults))


def _config(settings: Settings, _options: Any) -> int:
    lines = settings_module.show(settings)
    names, values = (max(len(getattr(line, part)) for line in lines) for part in ("name", "value"))
    for line in lines:
        print(f"{line.name:<{names}}  {line.value:<{min(values, 40)}}  [{line.source}]  {line.meaning}")
    return 0

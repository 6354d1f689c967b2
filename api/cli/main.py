"""The command `bitnexus`.

Each sub-command is a function here or in the module that it is about; errors are one line, exit code 1, or 2 where the arguments
are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import asyncpg

from actors import settings as settings_module
from actors.settings import Settings
from actors.storage.postgres.server import binaries
from actors.storage.repo import reason
from api.cli.database import ONE_LINE, CommandError, complain, connected, database_url, password
from api.version import VERSION
from schema.migrate import migrate


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        options.faults = faults = []
        examined = options.command == "doctor"  # to which a wrong setting is a finding among others
        settings = settings_module.load(any_secret=examined, faults=faults if examined else None)
        settings_module.use(settings)
        return options.run(settings, options)
    except (CommandError, *ONE_LINE) as error:
        return complain(error)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return complain(f"the database refused: {reason(error)}")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments on one line, without the usage before it; exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = _Parser(prog="bitnexus", description="BitNexus: a supervised actor runtime and the service on it.")
    top.add_argument("--version", action="version", version=f"bitnexus {VERSION}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Settings, Any], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    made = command("serve", _serve, "Start the whole tree and serve until Ctrl-C or SIGTERM.")
    made.add_argument(
        "--tree", type=Path, help="the supervisor.toml to start (default: the one here, else BitNexus's own)"
    )
    made.add_argument(
        "--nodes", type=whole(1, 64), help="how many server processes on one port (default: NODES, else 1)"
    )
    command(
        "upgrade",
        _upgrade,
        "Have the servers of `serve --nodes` replaced one by one, without a failed request.",
    )
    command("migrate", _migrate, "Bring the database's schema up to date.")
    command("config", _config, "Show every setting, its value and where it came from; secrets are masked.")
    made = command(
        "doctor", _doctor, "Check port, database, secret and Go services; say what to do about each."
    )
    made.add_argument("--token", help="check this access token as well (- reads it from standard input)")

    made = command("psql", _psql, "Open psql on the configured database, embedded or not.")
    made.add_argument("-c", dest="sql", metavar="SQL", help="run this and leave")

    made = command("demo", _demo, "Run the main job against the running server and print what happens.")
    made.add_argument("--url", help="base URL of the server (default: HOST and PORT)")
    made.add_argument("--email", help="sign in as this user (default: a demo user is made)")
    made.add_argument("--password", help="that user's password (- reads it from standard input)")
    made.add_argument("--count", type=whole(1), default=3, help="how many transactions (default: 3)")

    _operators(command)
    _data(commands)
    return top


def _data(commands: Any) -> None:
    user = commands.add_parser("user", help="Manage users.").add_subparsers(required=True, metavar="ACTION")
    made = user.add_parser("create", help="Create a user and print it as JSON.")
    made.add_argument("email", metavar="EMAIL")
    made.add_argument(
        "--password",
        help="- reads it from standard input; left out, it is asked for (other users see a command line)",
    )
    made.add_argument("--role", default="user", choices=("user", "admin", "service"))
    made.add_argument("--name", default="")
    made.set_defaults(run=_create_user)

    ledger = commands.add_parser("ledger", help="Check the ledger.").add_subparsers(
        required=True, metavar="ACTION"
    )
    made = ledger.add_parser(
        "verify", help="Check every row, entry and hash; exit 1 and the first bad one when not sound."
    )
    made.set_defaults(run=_verify_ledger)


def _operators(command: Callable[..., argparse.ArgumentParser]) -> None:
    def operator(name: str, text: str) -> argparse.ArgumentParser:
        made = command(name, _operate, text)
        made.add_argument("--url", help="base URL of the server (default: HOST and PORT, no sign-in needed)")
        made.add_argument("--email", help="sign in as this admin")
        made.add_argument(
            "--password", help="that admin's password (- reads it from standard input; default: asked for)"
        )
        made.add_argument("--node", help="the node, by its name or the beginning of it (see: bitnexus nodes)")
        return made

    made = operator("nodes", "Who is there, how they are, and who sees whom.")
    made.add_argument("--json", action="store_true", help="as JSON")
    operator("observer", "The living tree, processes, figures and crash log in the terminal.")
    made = operator("tree", "Print the supervision tree once, of all nodes or of one.")
    made.add_argument("root", nargs="?", default="root", help="a name or pid to begin at")
    made.add_argument(
        "--limit",
        type=whole(0, 1000),
        default=10,
        help="children of a dynamic supervisor to show (default: 10)",
    )
    made.add_argument("--json", action="store_true", help="as JSON")
    made = operator("ps", "Print the process table, of all nodes or of one.")
    made.add_argument(
        "--sort",
        default="reductions",
        choices=("reductions", "message_queue_len", "memory", "restarts", "name", "module"),
        help="by what (default: reductions)",
    )
    made.add_argument("--limit", type=whole(1, 500), default=30, help="how many (default: 30)")
    made.add_argument("--name", help="part of the name")
    made.add_argument("--module", help="part of the module")
    made.add_argument("--json", action="store_true", help="as JSON")
    for name, text in (
        ("kill", "Kill a process; its supervisor restarts it."),
        ("restart", "Stop and start a process by its supervisor."),
        ("suspend", "Suspend a process: its messages wait."),
        ("resume", "Let a suspended process go on."),
    ):
        operator(name, text).add_argument("pid", help="pid (0.17.0) or registered name")
    made = operator("trace", "Print the next messages of a process.")
    made.add_argument("pid", help="pid (0.17.0) or registered name")
    made.add_argument("-n", dest="messages", type=whole(1, 1000), default=10, help="how many (default: 10)")
    made.add_argument(
        "--seconds", type=seconds, default=10.0, help="how long at most (default: 10, at most 60)"
    )
    made = operator("drain", "Send the sockets of a node away; their clients come back elsewhere.")
    made.add_argument("--per-second", type=whole(1), default=1000, help="how many a second (default: 1000)")
    made.add_argument(
        "--seconds", type=seconds, default=30.0, help="after which the rest goes at once (default: 30)"
    )


def seconds(text: str) -> float:
    """A number of seconds that the server takes. Raises ArgumentTypeError, which says what is allowed."""
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
    """Reads a whole number within these bounds; else raises ArgumentTypeError, which says what is allowed."""
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
        from api.cli import nodes as servers

        settings = replace(settings, nodes=nodes)
        settings_module.use(settings)
        return servers.run(settings, options.tree)
    from api.cli import serve

    return serve.run(settings, options.tree)


def _upgrade(settings: Settings, options: Any) -> int:
    from api.cli import nodes

    return nodes.upgrade(settings)


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


def _migrate(settings: Settings, _options: Any) -> int:
    async def run() -> None:
        async with connected(settings, migrated=False) as connection:
            applied = await migrate(connection)
        for name in applied:
            print(f"applied {name}")
        print(f"{len(applied)} migrations applied; the schema is up to date")

    asyncio.run(run())
    return 0


def _psql(settings: Settings, options: Any) -> int:
    async def run() -> int:
        async with database_url(settings) as url:
            return await asyncio.to_thread(_run_psql, url, options.sql)

    return asyncio.run(run())


def _run_psql(url: str, sql: str | None) -> int:
    own = binaries() / "psql"
    program = str(own) if own.exists() else shutil.which("psql")
    if program is None:
        raise CommandError("psql: not found; install PostgreSQL's client programs")
    # The password goes through the environment: a command line is for every user of the machine to see.
    environment = dict(os.environ)
    password = urlsplit(url).password
    if password:
        url = url.replace(f":{password}@", "@", 1)
        environment["PGPASSWORD"] = unquote(password)
    command = (
        [program, "--no-psqlrc", url]
        if sql is None
        else [program, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-c", sql, url]
    )
    sys.stdout.flush()
    return subprocess.run(command, env=environment, check=False).returncode


def _create_user(settings: Settings, options: Any) -> int:
    import msgspec

    from api.http.fields import Email
    from api.security.passwords import hash_password
    from schema import users

    try:
        email = Email.parse(options.email)
    except ValueError as error:
        raise CommandError(f"user create: {options.email}: {error}") from None
    if "\x00" in options.name or len(options.name) > 200:
        raise CommandError("user create: expected a name of at most 200 characters")
    chosen = _new_password(options.password, str(email))

    async def run() -> None:
        async with connected(settings) as connection:
            try:
                row = await connection.fetchrow(
                    users.CREATE, email, options.name, options.role, hash_password(chosen)
                )
            except asyncpg.UniqueViolationError:
                raise CommandError(f"user create: a user with the address {email} exists") from None
        assert row is not None  # INSERT ... RETURNING
        print(json.dumps(msgspec.to_builtins({name: row[name] for name in ("id", "email", "name", "role")})))

    asyncio.run(run())
    return 0


def _new_password(given: str | None, email: str) -> str:
    """The password of the command line, of standard input, or as it is typed. Raises CommandError."""
    from api.security.passwords import problem

    typed = given is None and sys.stdin.isatty()
    given = password(given, email)
    if typed and password(None, email, "Once more") != given:
        raise CommandError("user create: these are two passwords")
    if (reason := problem(given)) is not None:
        raise CommandError(f"user create: the password: {reason}")
    return given


def _verify_ledger(settings: Settings, _options: Any) -> int:
    from actors.ledger.audit import verify_ledger

    async def run() -> int:
        step = None
        async with connected(settings) as connection:
            async for step in verify_ledger(connection):
                progress(step.checked, step.total, step.done)
        assert step is not None
        if step.fault is None:
            print(f"sound: {step.checked} entries, root {step.root_hash.hex()}")
            return 0
        fault = step.fault
        where = f"seq {fault.seq}" if fault.seq is not None else "no entry"
        print(f"not sound: {where}, transaction {fault.transaction_id or '-'}: {fault.reason}")
        return 1

    return asyncio.run(run())


def progress(done: int, total: int, last: bool) -> None:
    """A progress bar on a terminal's error output; nothing elsewhere."""
    if not sys.stderr.isatty():
        return
    part = done / total if total else 1.0
    bar = "#" * int(part * 30)
    end = "\n" if last else ""
    print(f"\r[{bar:<30}] {part:4.0%}  {done} of {total} entries", end=end, file=sys.stderr, flush=True)

"""Operators' commands over the admin API of any server: `bitnexus tree`, `ps`, `kill`, `restart`, `suspend`, `resume`, `trace`.

On the machine of the server no sign-in is needed: who can read its key and its database is its operator already. The command then
acts as the user operator@localhost, so that the audit log shows which acts were its. Elsewhere name --url and --email.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp

from actors.settings import Settings
from api.cli.database import CommandError, base_url, connected
from api.security.tokens import Keyring
from schema import users

OPERATOR = "operator@localhost"
MARKS = {"running": "●", "suspended": "◐", "restarting": "↻", "stopped": "○"}


class Client:
    """A signed-in operator at one server."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self.base = base

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer's JSON. Raises CommandError with the server's own words when it refuses."""
        params = {name: str(value) for name, value in query.items() if value is not None}
        try:
            async with self._session.request(method, path, json=body, params=params) as response:
                try:
                    answer = await response.json()
                except (ValueError, aiohttp.ContentTypeError):
                    answer = {}
                if response.status >= 400:
                    error = answer.get("error", {})
                    fields = "; ".join(f"{name}: {why}" for name, why in (error.get("fields") or {}).items())
                    raise CommandError(
                        fields or error.get("message") or f"{path} was answered {response.status}"
                    )
                return answer
        except aiohttp.ClientConnectionError as error:
            raise CommandError(f"{self.base}: the connection broke ({error})") from None
        except TimeoutError:
            raise CommandError(f"{self.base}: no answer in time") from None

    async def act(self, pid: str, action: str, body: Any = None) -> Any:
        """Does an action to a process, named by pid or registered name."""
        return await self.call("POST", f"/admin/processes/{quote(pid.strip('<>'), safe='')}/{action}", body)


@asynccontextmanager
async def connect(settings: Settings, options: Any) -> AsyncGenerator[Client, None]:
    """A client of the server that the options name. Raises CommandError, one line."""
    base = base_url(settings, options)
    timeout = aiohttp.ClientTimeout(total=90, connect=5)
    async with aiohttp.ClientSession(base, timeout=timeout) as session:
        try:
            async with session.get("/health"):
                pass
        except (aiohttp.ClientError, TimeoutError):
            raise CommandError(f"no server answers at {base}; start one with: bitnexus serve") from None
        client = Client(session, base)
        token = await _token(client, settings, options)
        session.headers["Authorization"] = f"Bearer {token}"
        yield client


async def _token(client: Client, settings: Settings, options: Any) -> str:
    if options.email:
        password = options.password or getpass.getpass(f"Password of {options.email}: ")
        body = {"email": options.email, "password": password}
        signed_in = await client.call("POST", "/api/v1/auth/login", body)
        if signed_in["user"]["role"] != "admin":
            raise CommandError(f"{options.email} is no admin")
        return signed_in["token"]
    if options.url:
        raise CommandError("name --email (of an admin) for a server elsewhere")
    async with connected(settings) as connection:
        row = await connection.fetchrow(users.BY_EMAIL, OPERATOR)
        if row is None:
            row = await connection.fetchrow(users.CREATE, OPERATOR, "The command line", "admin", None)
            assert row is not None  # INSERT ... RETURNING
    return Keyring(settings).issue(row["id"], "admin", OPERATOR, None)


# ---- the commands


async def tree(settings: Settings, options: Any) -> int:
    """Prints the tree once."""
    async with connect(settings, options) as client:
        found = await client.call("GET", "/admin/tree", root=options.root, limit=options.limit)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for line in tree_lines(found, colours):
        print(line)
    return 0


def tree_lines(node: dict[str, Any], colours: bool = False, first: str = "", rest: str = "") -> list[str]:
    """The tree as lines of text."""
    lines = [first + describe(node, colours)]
    children = node["children"]
    hidden = node.get("children_count", 0) - len(children)
    for index, child in enumerate(children):
        last = index == len(children) - 1 and hidden <= 0
        lines += tree_lines(
            child, colours, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  ")
        )
    if hidden > 0 and node["type"] == "supervisor":
        lines.append(f"{rest}└─ … {hidden} more")
    return lines


def describe(node: dict[str, Any], colours: bool = False) -> str:
    """One process of the tree on one line."""

    def paint(code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if colours else text

    code = {"running": "32", "suspended": "33", "restarting": "35"}.get(node["status"], "2")
    parts = [f"{paint(code, MARKS.get(node['status'], '?'))} {paint('1', node['name'])}"]
    parts.append(paint("2", f"<{node['pid']}>" if node["pid"] else "<>"))
    if node["type"] == "supervisor":
        kind = "dynamic" if node.get("dynamic") else node.get("strategy")
        parts.append(f"{kind}, {node.get('children_count', 0)} children")
    else:
        parts.append(node["module"].split(":")[-1])
    if node["status"] != "running":
        parts.append(node["status"])
    if node.get("state"):
        parts.append(node["state"])
    if node["restarts"]:
        parts.append(paint("35", f"{node['restarts']} restart{'s' if node['restarts'] != 1 else ''}"))
    if node.get("message_queue_len"):
        parts.append(paint("33", f"{node['message_queue_len']} waiting"))
    return "  ".join(parts)


COLUMNS = (
    ("pid", "PID", 12), ("name", "NAME", 28), ("status", "STATUS", 10), ("message_queue_len", "MSGQ", 7),
    ("reductions", "REDUCTIONS", 11), ("memory", "MEMORY", 9), ("restarts", "RESTARTS", 8), ("module", "MODULE", 0),
)  # fmt: skip


async def ps(settings: Settings, options: Any) -> int:
    """Prints the process table."""
    async with connect(settings, options) as client:
        page = await client.call(
            "GET",
            "/admin/processes",
            sort=options.sort,
            limit=options.limit,
            name=options.name,
            module=options.module,
        )
    if options.json:
        print(json.dumps(page["processes"], indent=2))
        return 0
    print("  ".join(f"{title:<{width}}" for _, title, width in COLUMNS).rstrip())
    for row in page["processes"]:
        row["name"] = row["name"] or "-"
        print("  ".join(f"{row[key]!s:<{width}}" for key, _, width in COLUMNS).rstrip())
    return 0


async def act(settings: Settings, options: Any) -> int:
    """kill, restart, suspend, resume."""
    async with connect(settings, options) as client:
        done = await client.act(options.pid, options.command)
    now = f", now <{done['new_pid']}>" if done.get("new_pid") else ""
    count = f", {done['restarts']} restarts" if done.get("restarts") else ""
    print(f"{options.pid}: {done['result']}{now}{count}")
    return 0


async def trace(settings: Settings, options: Any) -> int:
    """Prints the next messages of a process."""
    body = {"messages": options.messages, "timeout_ms": int(options.seconds * 1000)}
    async with connect(settings, options) as client:
        done = await client.act(options.pid, "trace", body)
    for event in done["events"]:
        peer = f" <{event['peer']}>" if event["peer"] else ""
        print(
            f"{event['at_ms']:14.3f} ms  {'->' if event['kind'] == 'in' else '<-'}{peer} {event['message']}"
        )
    print(f"{len(done['events'])} messages traced")
    return 0

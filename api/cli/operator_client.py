"""Operators' commands over the admin API of any server: `bitnexus nodes`, `tree`, `ps`, `kill`, `restart`, `trace`, `drain`, ...

Any server answers for all nodes. Commands that read show all nodes, or the one of --node; commands that act need --node if there
are several. A node that does not answer is one line.

On the server's own machine no sign-in is needed: whoever can read its key and its database is its operator already. The command
then acts as the user operator@localhost, which the audit log shows. For servers elsewhere give --url and --email.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp

from actors.settings import Settings
from api.cli.database import CommandError, base_url, connected, counted, password
from api.cli.probe import probe
from api.security.tokens import Keyring
from schema import users

OPERATOR = "operator@localhost"
MARKS = {"running": "●", "suspended": "◐", "restarting": "↻", "stopped": "○"}


class Client:
    """A client of the admin API, signed in at one server. Its requests are about `node`; None is the one that answers."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self.base = base
        self.node: str | None = None

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON of the answer. Raises CommandError with the server's message if it is an error."""
        if path.startswith("/admin/"):
            query.setdefault("node", self.node)
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
        except TimeoutError:
            raise CommandError(f"{self.base}: no answer in time") from None
        except aiohttp.ClientError as error:
            raise CommandError(f"{self.base}: the connection broke ({error})") from None

    async def nodes(self) -> list[dict[str, Any]]:
        """The nodes of `GET /admin/nodes`."""
        return (await self.call("GET", "/admin/nodes", node=None))["nodes"]

    async def act(self, pid: str, action: str, body: Any = None) -> Any:
        """Performs an action on a process, given by pid or registered name."""
        return await self.call("POST", f"/admin/processes/{quote(pid.strip('<>'), safe='')}/{action}", body)


@asynccontextmanager
async def connect(settings: Settings, options: Any) -> AsyncGenerator[Client, None]:
    """A signed-in client of the server that the options name. Raises CommandError, one line."""
    base = base_url(settings, options)
    timeout = aiohttp.ClientTimeout(total=90, connect=5)
    # One connection for all requests: if servers share a port, one that hangs accepts connections too, and this one answered.
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(base, timeout=timeout, connector=connector) as session:
        await probe(session, base)
        client = Client(session, base)
        token = await _token(client, settings, options)
        session.headers["Authorization"] = f"Bearer {token}"
        yield client


async def _token(client: Client, settings: Settings, options: Any) -> str:
    if options.email:
        body = {"email": options.email, "password": password(options.password, options.email)}
        signed_in = await client.call("POST", "/api/v1/auth/login", body)
        if signed_in["user"]["role"] != "admin":
            raise CommandError(f"{options.email} is not an admin")
        return signed_in["token"]
    if options.url:
        raise CommandError("--url needs --email of an admin")
    async with connected(settings) as connection:
        row = await connection.fetchrow(users.BY_EMAIL, OPERATOR)
        if row is None:
            row = await connection.fetchrow(users.CREATE, OPERATOR, "The command line", "admin", None)
            assert row is not None  # INSERT ... RETURNING
    return Keyring(settings).issue(row["id"], "admin", OPERATOR, None)


# ---- which nodes


def matching(nodes: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """The node of this name, or the only one whose name begins with it. Raises CommandError."""
    found = [one for one in nodes if one["node"] == wanted] or [
        one for one in nodes if one["node"].startswith(wanted)
    ]
    if len(found) != 1:
        names = ", ".join(one["node"] for one in found or nodes)
        raise CommandError(
            f"--node {wanted}: {'ambiguous' if found else 'there is no such node; there are'}: {names}"
        )
    return found[0]


async def selected_nodes(client: Client, options: Any) -> list[dict[str, Any]]:
    """The nodes to show: the one that is named, else all that have not left. Raises CommandError."""
    nodes = await client.nodes()
    if options.node is not None:
        return [matching(nodes, options.node)]
    return [one for one in nodes if one["state"] != "left"]


async def select_one(client: Client, options: Any) -> None:
    """Directs the client to the node to act on. Raises CommandError if there are several and none is named."""
    nodes = await client.nodes()
    if options.node is not None:
        client.node = matching(nodes, options.node)["node"]
    elif len(there := [one["node"] for one in nodes if one["state"] in ("up", "silent")]) > 1:
        raise CommandError(f"there are several nodes; give one of them as --node: {', '.join(there)}")


def unavailable_line(node: dict[str, Any]) -> str:
    """The line for a node that does not answer."""
    since = f" for {node['seconds']:.0f} s" if node["seconds"] is not None else ""
    return f"{node['node']}: {node['state']}{since} ({node['reason']})"


async def at_each(client: Client, nodes: list[dict[str, Any]], path: str, **query: Any) -> list[Any]:
    """The answer of each node, or the CommandError for one that is not up or fails."""

    async def one(node: dict[str, Any]) -> Any:
        if node["state"] != "up":
            return CommandError(unavailable_line(node))
        try:
            return await client.call("GET", path, node=node["node"], **query)
        except CommandError as error:
            return error

    return await asyncio.gather(*map(one, nodes))


# ---- the commands


async def tree(settings: Settings, options: Any) -> int:
    """Prints the supervision tree of each node."""
    async with connect(settings, options) as client:
        nodes = await selected_nodes(client, options)
        found = await at_each(client, nodes, "/admin/tree", root=options.root, limit=options.limit)
    several = len(nodes) > 1
    if options.json:
        shown = [
            {
                "node": node["node"],
                **({"error": str(one)} if isinstance(one, CommandError) else {"tree": one}),
            }
            for node, one in zip(nodes, found, strict=True)
        ]
        print(json.dumps(shown if several else _or_raise(found[0]), indent=2))
        return 0
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for node, one in zip(nodes, found, strict=True):
        if several:
            print(str(one) if isinstance(one, CommandError) else f"{node['node']}:")
        if several and isinstance(one, CommandError):
            continue
        for line in tree_lines(_or_raise(one), colours):
            print(line)
    return 0


def _or_raise(found: Any) -> Any:
    if isinstance(found, CommandError):
        raise found
    return found


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
        count = node.get("children_count", 0)
        parts.append(f"{kind}, {count} {'child' if count == 1 else 'children'}")
    else:
        parts.append(node["module"].split(":")[-1])
    if node["status"] != "running":
        parts.append(node["status"])
    if node.get("state"):
        parts.append(node["state"])
    if node["restarts"]:
        parts.append(paint("35", counted(node["restarts"], "restart")))
    if node.get("message_queue_len"):
        parts.append(paint("33", f"{node['message_queue_len']} waiting"))
    return "  ".join(parts)


COLUMNS = (
    ("pid", "PID", 12), ("name", "NAME", 28), ("status", "STATUS", 10), ("message_queue_len", "MSGQ", 7),
    ("reductions", "REDUCTIONS", 11), ("memory", "MEMORY", 9), ("restarts", "RESTARTS", 8), ("module", "MODULE", 0),
)  # fmt: skip
ASCENDING = ("name", "module")


async def ps(settings: Settings, options: Any) -> int:
    """Prints the process table, of all nodes as one."""
    query = {"sort": options.sort, "limit": options.limit, "name": options.name, "module": options.module}
    async with connect(settings, options) as client:
        nodes = await selected_nodes(client, options)
        found = await at_each(client, nodes, "/admin/processes", **query)
    several = len(nodes) > 1
    if not several:
        _or_raise(found[0])
    rows = [
        {**row, "node": node["node"]} if several else row
        for node, page in zip(nodes, found, strict=True)
        if not isinstance(page, CommandError)
        for row in page["processes"]
    ]
    rows.sort(
        key=lambda row: row[options.sort] or "\uffff" if options.sort in ASCENDING else -row[options.sort]
    )
    del rows[options.limit :]
    for page in found:
        if isinstance(page, CommandError):
            print(page, file=sys.stderr)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max((len(node["node"]) for node in nodes), default=0)
    columns = ((("node", "NODE", width),) if several else ()) + COLUMNS
    print("  ".join(f"{title:<{width}}" for _, title, width in columns).rstrip())
    for row in rows:
        row["name"] = row["name"] or "-"
        print("  ".join(f"{row[key]!s:<{width}}" for key, _, width in columns).rstrip())
    return 0


async def act(settings: Settings, options: Any) -> int:
    """kill, restart, suspend, resume."""
    async with connect(settings, options) as client:
        await select_one(client, options)
        done = await client.act(options.pid, options.command)
    now = f", now <{done['new_pid']}>" if done.get("new_pid") else ""
    count = f", {counted(done['restarts'], 'restart')}" if done.get("restarts") else ""
    print(f"{options.pid}: {done['result']}{now}{count}")
    return 0


async def drain(settings: Settings, options: Any) -> int:
    """Closes the sockets of a node in batches."""
    body = {"per_second": options.per_second, "timeout_ms": int(options.seconds * 1000)}
    async with connect(settings, options) as client:
        await select_one(client, options)
        done = await client.call("POST", "/admin/drain", body)
    print(f"closing {counted(done['sockets'], 'socket')}, {options.per_second} a second")
    return 0


async def trace(settings: Settings, options: Any) -> int:
    """Prints the next messages of a process, with the milliseconds since the first."""
    body = {"messages": options.messages, "timeout_ms": int(options.seconds * 1000)}
    async with connect(settings, options) as client:
        await select_one(client, options)
        done = await client.act(options.pid, "trace", body)
    for event in done["events"]:
        peer = f" <{event['peer']}>" if event["peer"] else ""
        since = event["at_ms"] - done["events"][0]["at_ms"]
        print(f"{since:10.3f} ms  {'->' if event['kind'] == 'in' else '<-'}{peer} {event['message']}")
    print(f"{counted(len(done['events']), 'message')} traced")
    return 0

"""`bitnexus observer`: the tree, the process table, statistics and the crash log in a terminal, over the admin API of a server.

Keys: 1 tree, 2 processes, 3 crash log; r restart, k kill, s suspend or resume, t trace, o next sort order, n next node, / find,
q quit.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, ClassVar

from rich.markup import escape
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import DataTable, Footer, Header, Input, Sparkline, Static, TabbedContent, TabPane, Tree

from actors.settings import Settings
from api.cli.database import CommandError
from api.cli.operator_client import MARKS, Client, connect, matching

REFRESH_SECONDS = 1.0
SORTS = ("reductions", "message_queue_len", "memory", "restarts", "name", "module")
COLOURS = {"running": "green", "waiting": "green", "suspended": "yellow", "restarting": "magenta"}


class ObserverApp(App[None]):
    """The terminal console; it shows one node at a time."""

    TITLE = "BitNexus observer"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #figures { height: 1; padding: 0 1; background: $boost; }
    #lines { height: 3; padding: 0 1; }
    #lines Vertical { width: 1fr; padding-right: 2; }
    #lines Static { height: 1; color: $text-muted; }
    Sparkline { height: 2; }
    #body { height: 1fr; }
    TabbedContent { width: 3fr; }
    #pane { width: 2fr; border-left: solid $primary; padding: 0 1; display: none; }
    #pane.open { display: block; }
    #find { display: none; } #find.open { display: block; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("1", "tab('tree')", "Tree"),
        Binding("2", "tab('processes')", "Processes"),
        Binding("3", "tab('log')", "Crash log"),
        Binding("r", "act('restart')", "Restart"),
        Binding("k", "act('kill')", "Kill"),
        Binding("s", "suspend", "Suspend"),
        Binding("t", "trace", "Trace"),
        Binding("o", "order", "Sort"),
        Binding("n", "node", "Node"),
        Binding("slash", "find", "Find"),
        Binding("escape", "close", "Close", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.sub_title = self._subtitle()
        self.sort_index = 0
        self.name_filter = ""
        self.shown: str | None = None
        self.confirming: str | None = None
        self.traced: list[str] = []
        self.newest_report = 0
        self.samples: list[dict[str, Any]] = []

    def compose(self) -> ComposeResult:
        """The layout."""
        yield Header()
        yield Static(id="figures")
        with Horizontal(id="lines"):
            for key, title in (
                ("requests", "requests/s"),
                ("p95", "latency p95, ms"),
                ("lag_ms", "loop lag, ms"),
                ("cpu", "CPU, %"),
            ):
                with Vertical():
                    yield Static(title)
                    yield Sparkline([0], id=f"line-{key}")
        with Horizontal(id="body"):
            with TabbedContent(id="tabs"):
                with TabPane("Tree", id="tree"):
                    yield Tree("root", id="processes-tree")
                with TabPane("Processes", id="processes"):
                    yield DataTable(id="table", cursor_type="row", zebra_stripes=True)
                with TabPane("Crash log", id="log"):
                    yield DataTable(id="reports", cursor_type="row", zebra_stripes=True)
            with VerticalScroll(id="pane"):
                yield Static(id="process")
        yield Input(placeholder="part of a process's name", id="find")
        yield Footer()

    async def on_mount(self) -> None:
        """Reads for the first time, and then every REFRESH_SECONDS."""
        table = self.query_one("#table", DataTable)
        for title in ("Process", "Status", "MsgQ", "Reductions", "Memory", "Restarts", "Module"):
            table.add_column(title, key=title)
        self.query_one("#reports", DataTable).add_columns("At", "Kind", "Who", "Why")
        self.set_interval(REFRESH_SECONDS, self.read)
        await self.read()
        self.query_one("#processes-tree").focus()

    async def read(self) -> None:
        """Reads and shows everything; if the server does not answer, the title line says so."""
        try:
            stats, tree, log = await asyncio.gather(
                self.client.call("GET", "/admin/stats", limit=60),
                self.client.call("GET", "/admin/tree", limit=20),
                self.client.call("GET", "/admin/reports", limit=100),
            )
            page = await self.client.call(
                "GET",
                "/admin/processes",
                sort=SORTS[self.sort_index],
                limit=100,
                name=self.name_filter or None,
            )
        except CommandError as error:
            self.sub_title = str(error)
            return
        if not self.is_running:  # quit while the server answered: the widgets are gone
            return
        self.sub_title = self._subtitle()
        self._figures(stats)
        self._tree(tree)
        self._table(page["processes"])
        self._log(log["reports"])
        await self._pane()

    def _subtitle(self) -> str:
        return f"{self.client.node} at {self.client.base}" if self.client.node else self.client.base

    def _figures(self, stats: dict[str, Any]) -> None:
        self.samples = stats["samples"]
        last = self.samples[-1] if self.samples else stats["now"]

        def show(key: str, unit: str = "") -> str:
            value = last.get(key)
            return (
                "–" if value is None else f"{value:g}{unit}" if isinstance(value, float) else f"{value}{unit}"
            )

        parts = [
            f"requests/s [b]{show('requests')}[/]",
            f"tx/s [b]{show('transactions')}[/]",
            f"p95 [b]{show('p95', ' ms')}[/]",
            f"sockets [b]{show('sockets')}[/]",
            f"processes [b]{show('processes')}[/]",
            f"mailboxes [b]{show('mailbox')}[/]",
            f"ledger [b]#{show('ledger_seq')}[/]",
            f"database [b {'green' if last.get('database') == 'up' else 'red'}]{show('database')}[/]",
            *(f"{name} [b]{state}[/]" for name, state in last.get("breakers", {}).items()),
        ]
        self.query_one("#figures", Static).update("   ".join(parts))
        for key in ("requests", "p95", "lag_ms", "cpu"):
            self.query_one(f"#line-{key}", Sparkline).data = [one.get(key) or 0 for one in self.samples] or [
                0
            ]

    def _tree(self, root: dict[str, Any]) -> None:
        tree: Any = self.query_one("#processes-tree", Tree)
        chosen = (
            tree.cursor_node.data["name"] if tree.cursor_node is not None and tree.cursor_node.data else None
        )
        closed = {node.data["name"] for node in _nodes(tree.root) if node.data and not node.is_expanded}
        tree.root.remove_children()
        tree.root.set_label(_label(root))
        tree.root.data = root
        tree.root.expand()
        self._grow(tree.root, root, closed)
        # Reading `last_line` makes the widget build its lines: only then can the cursor be moved, before the next key comes.
        _ = tree.last_line
        if chosen is not None:
            found = next(
                (node for node in _nodes(tree.root) if node.data and node.data["name"] == chosen), None
            )
            if found is not None:
                tree.move_cursor(found)

    def _grow(self, place: Any, node: dict[str, Any], closed: set[str]) -> None:
        for child in node["children"]:
            if child["type"] == "supervisor":
                self._grow(
                    place.add(_label(child), data=child, expand=child["name"] not in closed), child, closed
                )
            else:
                place.add_leaf(_label(child), data=child)
        hidden = node.get("children_count", 0) - len(node["children"])
        if hidden > 0:
            place.add_leaf(f"[dim]… {hidden} more: see Processes[/]", data=None)

    def _table(self, rows: list[dict[str, Any]]) -> None:
        table = self.query_one("#table", DataTable)
        at = table.cursor_row
        table.clear()
        for row in rows:
            colour = COLOURS.get(row["status"], "cyan")
            table.add_row(
                escape(row["name"] or f"<{row['pid']}>"), f"[{colour}]{row['status']}[/]", row["message_queue_len"],
                row["reductions"], f"{row['memory']:,}", row["restarts"], row["module"], key=row["pid"],
            )  # fmt: skip
        if rows:
            table.move_cursor(row=min(at, len(rows) - 1))

    def _log(self, reports: list[dict[str, Any]]) -> None:
        if not reports or reports[0]["id"] == self.newest_report:
            return
        self.newest_report = reports[0]["id"]
        table = self.query_one("#reports", DataTable)
        table.clear()
        for one in reports:
            about = one["context"].get("child") if one["kind"] == "supervisor" else one["name"]
            why = (one["reason"] or "").splitlines()[:1] or [""]
            stamp = datetime.fromtimestamp(one["at"]).strftime("%H:%M:%S")
            table.add_row(
                stamp, one["kind"], escape(str(about or one["pid"])), escape(why[0]), key=str(one["id"])
            )

    # ---- one process

    def _selected(self) -> str | None:
        """The pid (or name) of the row under the cursor."""
        if self.query_one("#tabs", TabbedContent).active == "processes":
            table = self.query_one("#table", DataTable)
            if not table.row_count:
                return None
            return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        node = self.query_one("#processes-tree", Tree).cursor_node
        data: Any = node.data if node is not None else None
        return (data["pid"] or data["name"]) if data else None

    async def on_tree_node_selected(self, event: Any) -> None:
        """Enter in the tree opens the pane."""
        if event.node.data:
            await self._open(
                event.node.data["name"] if event.node.data["type"] == "supervisor" else event.node.data["pid"]
            )

    async def on_data_table_row_selected(self, event: Any) -> None:
        """Enter in the table opens the pane."""
        if event.data_table.id == "table":
            await self._open(event.row_key.value)

    async def _open(self, handle: str) -> None:
        self.shown, self.traced = handle, []
        self.query_one("#pane").add_class("open")
        await self._pane()

    async def _pane(self) -> None:
        if self.shown is None:
            return
        place = self.query_one("#process", Static)
        try:
            found = (await self.client.call("GET", f"/admin/processes/{self.shown}"))["process"]
        except CommandError as error:
            place.update(f"[b]{escape(self.shown)}[/]\n{escape(str(error))}")
            return
        place.update("\n".join(_facts(found, self.traced)))

    # ---- actions

    def action_tab(self, name: str) -> None:
        """Shows another view."""
        self.query_one("#tabs", TabbedContent).active = name
        self.query_one({"tree": "#processes-tree", "processes": "#table", "log": "#reports"}[name]).focus()

    async def action_act(self, action: str) -> None:
        """Restarts the process; kills it when the key is pressed twice."""
        pid = self._selected()
        if pid is None:
            return
        if action == "kill" and self.confirming != pid:
            self.confirming = pid
            self.notify(f"Press k again to kill {pid}", severity="warning")
            return
        self.confirming = None
        await self._do(pid, action)

    async def action_suspend(self) -> None:
        """Suspends, or resumes a suspended process."""
        pid = self._selected()
        if pid is None:
            return
        try:
            found = (await self.client.call("GET", f"/admin/processes/{pid}"))["process"]
        except CommandError as error:
            self.notify(str(error), severity="error")
            return
        await self._do(pid, "resume" if found["suspended"] else "suspend")

    async def action_trace(self) -> None:
        """Traces the next ten messages of the process."""
        pid = self._selected()
        if pid is not None:
            self.notify(f"Tracing {pid} for five seconds")
            self.run_worker(self._trace(pid), exclusive=True)

    async def _trace(self, pid: str) -> None:
        try:
            done = await self.client.act(pid, "trace", {"messages": 10, "timeout_ms": 5000})
        except CommandError as error:
            self.notify(str(error), severity="error")
            return
        await self._open(pid)
        self.traced = [
            f"{'→' if one['kind'] == 'in' else '←'} {one['message']}" for one in done["events"]
        ] or ["no messages"]
        await self._pane()

    async def _do(self, pid: str, action: str) -> None:
        try:
            done = await self.client.act(pid, action)
        except CommandError as error:
            self.notify(str(error), severity="error")
            return
        now = f", now <{done['new_pid']}>" if done.get("new_pid") else ""
        if done.get("new_pid") and self.shown == pid:
            self.shown = done["new_pid"]
        self.notify(f"{pid}: {done['result']}{now}", markup=False)
        await self.read()

    async def action_order(self) -> None:
        """Sorts the table by the next column."""
        self.sort_index = (self.sort_index + 1) % len(SORTS)
        self.notify(f"sorted by {SORTS[self.sort_index]}")
        await self.read()

    async def action_node(self) -> None:
        """Shows the next node."""
        try:
            names = [one["node"] for one in await self.client.nodes() if one["state"] == "up"]
        except CommandError as error:
            self.notify(str(error), severity="error")
            return
        following = names.index(self.client.node) + 1 if self.client.node in names else 0
        self.client.node = names[following % len(names)]
        self.notify(f"{self.client.node}", markup=False)
        self.action_close()
        self.newest_report = 0
        await self.read()

    def action_find(self) -> None:
        """Opens the input for a name filter."""
        self.query_one("#find", Input).add_class("open").focus()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Filters the process table by name."""
        self.name_filter = event.value.strip()
        event.input.remove_class("open")
        self.action_tab("processes")
        await self.read()

    def action_close(self) -> None:
        """Closes the pane and the search."""
        self.shown = self.confirming = None
        self.query_one("#pane").remove_class("open")
        self.query_one("#find").remove_class("open")


def _nodes(node: Any) -> list[Any]:
    return [node, *(below for child in node.children for below in _nodes(child))]


def _label(node: dict[str, Any]) -> str:
    colour = COLOURS.get(node["status"], "white")
    kind = (
        ("dynamic" if node.get("dynamic") else node.get("strategy"))
        if node["type"] == "supervisor"
        else node["module"].split(":")[-1]
    )
    parts = [f"[{colour}]{MARKS.get(node['status'], '?')}[/] [b]{escape(node['name'])}[/] [dim]{kind}[/]"]
    if node.get("dynamic"):
        parts.append(f"[dim]{node['children_count']} children[/]")
    if node.get("state"):
        parts.append(f"[cyan]{escape(node['state'])}[/]")
    if node["restarts"]:
        parts.append(f"[magenta]↻ {node['restarts']}[/]")
    if node.get("message_queue_len"):
        parts.append(f"[yellow]✉ {node['message_queue_len']}[/]")
    return " ".join(parts)


def _facts(found: dict[str, Any], traced: list[str]) -> list[str]:
    lines = [f"[b]{escape(found['name'] or '')}[/] [dim]<{found['pid']}>[/]", escape(found["module"]), ""]
    for title, key in (
        ("status", "status"), ("restarts", "restarts"), ("mailbox", "message_queue_len"), ("reductions", "reductions"),
        ("memory", "memory"), ("message", "current_message"), ("since, ms", "current_since_ms"), ("restart", "restart"),
        ("strategy", "strategy"), ("children", "children_count"),
    ):  # fmt: skip
        if found.get(key) is not None:
            lines.append(f"[dim]{title:<11}[/] {escape(str(found[key]))}")
    lines.append(f"[dim]{'ancestors':<11}[/] {escape(' › '.join(found['ancestors']))}")
    links = ", ".join(one["name"] or f"<{one['pid']}>" for one in found["links"][:10])
    lines.append(f"[dim]{'links':<11}[/] {escape(links)}")
    if found["current_stack"]:
        lines += ["", "[b]Where it waits[/]", *map(escape, found["current_stack"])]
    if traced:
        lines += ["", "[b]Trace[/]", *map(escape, traced)]
    if isinstance(found["state"], dict):
        lines += ["", "[b]State[/] [dim](secrets masked)[/]"]
        lines += [
            f"[dim]{escape(key)}[/] {escape(str(value)[:200])}" for key, value in found["state"].items()
        ]
    for one in found["reports"][:5]:
        lines += [
            "",
            f"[b]{one['kind']}[/] [dim]{datetime.fromtimestamp(one['at']):%H:%M:%S}[/]",
            escape((one["reason"] or "")[:600]),
        ]
    return lines


async def run(settings: Settings, options: Any) -> int:
    """Runs until the user quits; returns the exit code."""
    async with connect(settings, options) as client:
        nodes = await client.nodes()
        # Always by name: if nodes share a port, each request may be answered by another one.
        client.node = (matching(nodes, options.node) if options.node else nodes[0])["node"]
        await ObserverApp(client).run_async()
    return 0

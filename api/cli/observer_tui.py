"""`bitnexus observer`: the tree, the process table, statistics and the crash log in a terminal, over the admin API of a server.

Keys: 1 tree, 2 processes, 3 crash log; r restart, k kill, s suspend or resume, t trace, o next sort order, n next node, / find,
q quit.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Header, Input, TabbedContent, TabPane

from actors.settings import Settings
from api.cli.database import CommandError
from api.cli.observer_widgets import CrashLog, Figures, Lines, ProcessDetails, ProcessRows, ProcessTree
from api.cli.operator_client import Client, connect, matching

REFRESH_SECONDS = 1.0
SORTS = ("reductions", "message_queue_len", "memory", "restarts", "name", "module")


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

    def compose(self) -> ComposeResult:
        """The layout."""
        yield Header()
        yield Figures(id="figures")
        yield Lines(id="lines")
        with Horizontal(id="body"):
            with TabbedContent(id="tabs"):
                with TabPane("Tree", id="tree"):
                    yield ProcessTree("root", id="processes-tree")
                with TabPane("Processes", id="processes"):
                    yield ProcessRows(id="table", cursor_type="row", zebra_stripes=True)
                with TabPane("Crash log", id="log"):
                    yield CrashLog(id="reports", cursor_type="row", zebra_stripes=True)
            with VerticalScroll(id="pane"):
                yield ProcessDetails(id="process")
        yield Input(placeholder="part of a process's name", id="find")
        yield Footer()

    async def on_mount(self) -> None:
        """Reads for the first time, and then every REFRESH_SECONDS."""
        self.query_one(ProcessRows).head()
        self.query_one(CrashLog).head()
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
        samples = stats["samples"]
        self.query_one(Figures).show(samples[-1] if samples else stats["now"])
        self.query_one(Lines).show(samples)
        self.query_one(ProcessTree).show(tree)
        self.query_one(ProcessRows).show(page["processes"])
        self.query_one(CrashLog).show(log["reports"])
        await self._show_details()

    def _subtitle(self) -> str:
        return f"{self.client.node} at {self.client.base}" if self.client.node else self.client.base

    # ---- one process

    def _selected(self) -> str | None:
        """The pid (or name) of the process under the cursor."""
        if self.query_one(TabbedContent).active == "processes":
            return self.query_one(ProcessRows).selected
        return self.query_one(ProcessTree).selected

    async def on_tree_node_selected(self, event: Any) -> None:
        """Enter in the tree opens the details."""
        if event.node.data:
            await self._open(
                event.node.data["name"] if event.node.data["type"] == "supervisor" else event.node.data["pid"]
            )

    async def on_data_table_row_selected(self, event: Any) -> None:
        """Enter in the table opens the details."""
        if event.data_table.id == "table":
            await self._open(event.row_key.value)

    async def _open(self, handle: str) -> None:
        self.shown, self.traced = handle, []
        self.query_one("#pane").add_class("open")
        await self._show_details()

    async def _show_details(self) -> None:
        if self.shown is None:
            return
        details = self.query_one(ProcessDetails)
        try:
            found = (await self.client.call("GET", f"/admin/processes/{self.shown}"))["process"]
        except CommandError as error:
            details.fail(self.shown, str(error))
            return
        details.show(found, self.traced)

    # ---- actions

    def action_tab(self, name: str) -> None:
        """Shows another view."""
        self.query_one(TabbedContent).active = name
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
        await self._show_details()

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
        self.query_one(CrashLog).newest = 0
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
        """Closes the details and the search."""
        self.shown = self.confirming = None
        self.query_one("#pane").remove_class("open")
        self.query_one("#find").remove_class("open")


async def run(settings: Settings, options: Any) -> int:
    """Runs until the user quits; returns the exit code."""
    async with connect(settings, options) as client:
        nodes = await client.nodes()
        # Always by name: if nodes share a port, each request may be answered by another one.
        client.node = (matching(nodes, options.node) if options.node else nodes[0])["node"]
        await ObserverApp(client).run_async()
    return 0

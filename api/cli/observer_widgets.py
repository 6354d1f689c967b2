"""The widgets of `bitnexus observer`: each shows the JSON of one endpoint of the admin API and keeps the user's place in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from rich.markup import escape
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Sparkline, Static, Tree

from api.cli.operator_client import MARKS

COLOURS: Final = {"running": "green", "waiting": "green", "suspended": "yellow", "restarting": "magenta"}
LINES: Final = {
    "requests": "requests/s",
    "p95": "latency p95, ms",
    "lag_ms": "loop lag, ms",
    "cpu": "CPU, %",
}
FACTS: Final = (
    ("status", "status"), ("restarts", "restarts"), ("mailbox", "message_queue_len"), ("reductions", "reductions"),
    ("memory", "memory"), ("message", "current_message"), ("since, ms", "current_since_ms"), ("restart", "restart"),
    ("strategy", "strategy"), ("children", "children_count"),
)  # fmt: skip


class Figures(Static):
    """One line with the latest sample of `GET /admin/stats`."""

    def show(self, sample: dict[str, Any]) -> None:
        """Shows this sample."""

        def text(key: str, unit: str = "") -> str:
            value = sample.get(key)
            if value is None:
                return "–"
            return f"{value:g}{unit}" if isinstance(value, float) else f"{value}{unit}"

        database = "green" if sample.get("database") == "up" else "red"
        parts = [
            f"requests/s [b]{text('requests')}[/]",
            f"tx/s [b]{text('transactions')}[/]",
            f"p95 [b]{text('p95', ' ms')}[/]",
            f"sockets [b]{text('sockets')}[/]",
            f"processes [b]{text('processes')}[/]",
            f"mailboxes [b]{text('mailbox')}[/]",
            f"ledger [b]#{text('ledger_seq')}[/]",
            f"database [b {database}]{text('database')}[/]",
            *(f"{name} [b]{state}[/]" for name, state in sample.get("breakers", {}).items()),
        ]
        self.update("   ".join(parts))


class Lines(Horizontal):
    """A sparkline for some columns of the samples."""

    def compose(self) -> ComposeResult:
        """A title above each line."""
        for key, title in LINES.items():
            with Vertical():
                yield Static(title)
                yield Sparkline([0], name=key)

    def show(self, samples: list[dict[str, Any]]) -> None:
        """Shows these samples, oldest first."""
        for line in self.query(Sparkline):  # none before the first layout
            line.data = [one.get(line.name or "") or 0 for one in samples] or [0]


class ProcessTree(Tree[Any]):
    """The supervision tree of `GET /admin/tree`; a node's data is its JSON."""

    def show(self, root: dict[str, Any]) -> None:
        """Shows the tree; the cursor and what is collapsed stay."""
        at = self.cursor_node
        chosen = at.data["name"] if at is not None and at.data else None
        closed = {node.data["name"] for node in _below(self.root) if node.data and not node.is_expanded}
        self.root.remove_children()
        self.root.set_label(_label(root))
        self.root.data = root
        self.root.expand()
        self._grow(self.root, root, closed)
        # Reading `last_line` makes the widget build its lines: only then can the cursor be moved, before the next key comes.
        _ = self.last_line
        for node in _below(self.root):
            if chosen is not None and node.data and node.data["name"] == chosen:
                self.move_cursor(node)
                return

    def _grow(self, place: Any, process: dict[str, Any], closed: set[str]) -> None:
        for child in process["children"]:
            if child["type"] == "supervisor":
                below = place.add(_label(child), data=child, expand=child["name"] not in closed)
                self._grow(below, child, closed)
            else:
                place.add_leaf(_label(child), data=child)
        hidden = process.get("children_count", 0) - len(process["children"])
        if hidden > 0:
            place.add_leaf(f"[dim]… {hidden} more: see Processes[/]", data=None)

    @property
    def selected(self) -> str | None:
        """The pid of the process under the cursor, or its name while it does not run."""
        data: Any = self.cursor_node.data if self.cursor_node is not None else None
        return (data["pid"] or data["name"]) if data else None


class ProcessRows(DataTable[Any]):
    """The process table of `GET /admin/processes`, keyed by pid."""

    def head(self) -> None:
        """Adds the columns; to be called once, when it is mounted."""
        for title in ("Process", "Status", "MsgQ", "Reductions", "Memory", "Restarts", "Module"):
            self.add_column(title, key=title)

    def show(self, rows: list[dict[str, Any]]) -> None:
        """Shows these rows; the cursor stays on its line."""
        at = self.cursor_row
        self.clear()
        for row in rows:
            colour = COLOURS.get(row["status"], "cyan")
            self.add_row(
                escape(row["name"] or f"<{row['pid']}>"), f"[{colour}]{row['status']}[/]", row["message_queue_len"],
                row["reductions"], f"{row['memory']:,}", row["restarts"], row["module"], key=row["pid"],
            )  # fmt: skip
        if rows:
            self.move_cursor(row=min(at, len(rows) - 1))

    @property
    def selected(self) -> str | None:
        """The pid of the row under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value


class CrashLog(DataTable[Any]):
    """The reports of `GET /admin/reports`, newest first."""

    newest = 0  # the id of the first report shown

    def head(self) -> None:
        """Adds the columns; to be called once, when it is mounted."""
        self.add_columns("At", "Kind", "Who", "Why")

    def show(self, reports: list[dict[str, Any]]) -> None:
        """Shows these reports, unless they are shown already."""
        if not reports or reports[0]["id"] == self.newest:
            return
        self.newest = reports[0]["id"]
        self.clear()
        for one in reports:
            about = one["context"].get("child") if one["kind"] == "supervisor" else one["name"]
            why = (one["reason"] or "").partition("\n")[0]
            stamp = f"{datetime.fromtimestamp(one['at']):%H:%M:%S}"
            self.add_row(
                stamp, one["kind"], escape(str(about or one["pid"])), escape(why), key=str(one["id"])
            )


class ProcessDetails(Static):
    """One process, of `GET /admin/processes/{pid}`."""

    def show(self, process: dict[str, Any], traced: list[str]) -> None:
        """Shows a process, and the messages that were traced of it."""
        self.update("\n".join(_facts(process, traced)))

    def fail(self, pid: str, message: str) -> None:
        """Shows why there is nothing to show."""
        self.update(f"[b]{escape(pid)}[/]\n{escape(message)}")


def _below(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from _below(child)


def _label(node: dict[str, Any]) -> str:
    colour = COLOURS.get(node["status"], "white")
    if node["type"] == "supervisor":
        kind = "dynamic" if node.get("dynamic") else node.get("strategy")
    else:
        kind = node["module"].split(":")[-1]
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


def _facts(process: dict[str, Any], traced: list[str]) -> list[str]:
    lines = [
        f"[b]{escape(process['name'] or '')}[/] [dim]<{process['pid']}>[/]",
        escape(process["module"]),
        "",
    ]
    for title, key in FACTS:
        if process.get(key) is not None:
            lines.append(f"[dim]{title:<11}[/] {escape(str(process[key]))}")
    lines.append(f"[dim]{'ancestors':<11}[/] {escape(' › '.join(process['ancestors']))}")
    links = ", ".join(one["name"] or f"<{one['pid']}>" for one in process["links"][:10])
    lines.append(f"[dim]{'links':<11}[/] {escape(links)}")
    if process["current_stack"]:
        lines += ["", "[b]Where it waits[/]", *map(escape, process["current_stack"])]
    if traced:
        lines += ["", "[b]Trace[/]", *map(escape, traced)]
    if isinstance(process["state"], dict):
        lines += ["", "[b]State[/] [dim](secrets masked)[/]"]
        lines += [
            f"[dim]{escape(key)}[/] {escape(str(value)[:200])}" for key, value in process["state"].items()
        ]
    for one in process["reports"][:5]:
        stamp = f"{datetime.fromtimestamp(one['at']):%H:%M:%S}"
        lines += ["", f"[b]{one['kind']}[/] [dim]{stamp}[/]", escape((one["reason"] or "")[:600])]
    return lines

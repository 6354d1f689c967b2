"""The events of a simulation as a message-sequence chart (ITU-T Z.120, UML), in text and in Mermaid.

ms  client          server
 0    |---Call(1)---->|
 5    |               X  normal
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.testing.deterministic_engine import Event

OUTSIDE: Final = "(test)"  # the sender outside of processes
_MAX_CONTENT: Final = 40  # characters


def _shown(events: Sequence[Event], limit: int | None) -> tuple[list[Event], list[str]]:
    """The last `limit` events, and their participants in order of appearance."""
    chosen = list(events if limit is None else events[max(0, len(events) - limit) :])
    participants: dict[str, None] = {}
    for event in chosen:
        if event.kind != "exit":
            participants[event.source or OUTSIDE] = None
        participants[event.target] = None
    return chosen, list(participants)


def _clip(content: str) -> str:
    line = " ".join(content.split())
    return line if len(line) <= _MAX_CONTENT else line[: _MAX_CONTENT - 3] + "..."


def text(events: Sequence[Event], limit: int | None = 60) -> str:
    """The chart as text: a column per process, a line per message (`-`), exit signal (`~`) and exit (`X`).

    It shows the last `limit` events, with None all.
    """
    chosen, participants = _shown(events, limit)
    if not chosen:
        return "(nothing happened)"
    width = max(max(map(len, participants)), max(len(_clip(event.content)) for event in chosen)) + 6
    at = {name: index * width for index, name in enumerate(participants)}
    lines = [" " * 11 + "".join(name.ljust(width) for name in participants).rstrip()]
    if len(chosen) < len(events):
        lines.insert(0, f"({len(events) - len(chosen)} earlier events are not shown)")
    for event in chosen:
        row = list(("|" + " " * (width - 1)) * len(participants))
        end = at[event.target]
        content = _clip(event.content)
        begin = end if event.kind == "exit" else at[event.source or OUTSIDE]
        if event.kind == "exit":
            row[end] = "X"
            row[end + 2 : end + 2 + len(content)] = content
        elif begin == end:
            row[end + 1 : end + 6 + len(content)] = f"<-- {content} "
        else:
            left, right = min(begin, end), max(begin, end)
            dash = "-" if event.kind == "send" else "~"
            row[left + 1 : right] = content.center(right - left - 1, dash)
            row[right - 1 if end > begin else left + 1] = ">" if end > begin else "<"
        lines.append(f"{event.ms:>9g}  {''.join(row).rstrip()}")
    return "\n".join(lines)


def mermaid(events: Sequence[Event], limit: int | None = 60) -> str:
    """The chart as a Mermaid sequenceDiagram; each message begins with its time in ms."""
    chosen, participants = _shown(events, limit)
    number = {name: f"p{index}" for index, name in enumerate(participants)}
    lines = [
        "sequenceDiagram",
        *(f"    participant {number[name]} as {_escape(name)}" for name in participants),
    ]
    for event in chosen:
        target, content = number[event.target], _escape(f"{event.ms:g}: {_clip(event.content)}")
        if event.kind == "exit":
            lines.append(f"    Note over {target}: {content}")
        else:
            arrow = "->>" if event.kind == "send" else "--x"
            lines.append(f"    {number[event.source or OUTSIDE]}{arrow}{target}: {content}")
    return "\n".join(lines)


def _escape(content: str) -> str:
    """Escapes Mermaid's special characters."""
    return "".join(f"#{ord(sign)};" if sign in "#;<>{}\"'" else sign for sign in content)

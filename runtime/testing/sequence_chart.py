"""What a simulation has seen, as a message-sequence chart (ITU-T Z.120, UML): in text, and in Mermaid.

ms  client          server
 0    |---Call(1)---->|
 5    |               X  normal
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.testing.deterministic_engine import Event

OUTSIDE: Final = "(test)"  # who sends from outside of all processes
_LONGEST: Final = 40


def _shown(events: Sequence[Event], limit: int | None) -> tuple[list[Event], list[str]]:
    """The events that are shown, and who takes part, in order of appearance."""
    chosen = list(events if limit is None else events[max(0, len(events) - limit) :])
    people: dict[str, None] = {}
    for event in chosen:
        if event.kind != "exit":
            people[event.source or OUTSIDE] = None
        people[event.target] = None
    return chosen, list(people)


def _clip(content: str) -> str:
    line = " ".join(content.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def text(events: Sequence[Event], limit: int | None = 60) -> str:
    """The chart in text: a column for each process, a line for each message (`-`), exit signal (`~`) and end (`X`).

    Of more than `limit` events the last are shown; None shows all.
    """
    chosen, people = _shown(events, limit)
    if not chosen:
        return "(nothing happened)"
    width = max(max(map(len, people)), max(len(_clip(event.content)) for event in chosen)) + 6
    at = {name: index * width for index, name in enumerate(people)}
    lines = [" " * 11 + "".join(name.ljust(width) for name in people).rstrip()]
    if len(chosen) < len(events):
        lines.insert(0, f"({len(events) - len(chosen)} earlier events are not shown)")
    for event in chosen:
        row = list(("|" + " " * (width - 1)) * len(people))
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
    """The chart as a Mermaid sequenceDiagram; times in ms stand in front of what is sent."""
    chosen, people = _shown(events, limit)
    number = {name: f"p{index}" for index, name in enumerate(people)}
    lines = ["sequenceDiagram", *(f"    participant {number[name]} as {_escape(name)}" for name in people)]
    for event in chosen:
        target, content = number[event.target], _escape(f"{event.ms:g}: {_clip(event.content)}")
        if event.kind == "exit":
            lines.append(f"    Note over {target}: {content}")
        else:
            arrow = "->>" if event.kind == "send" else "--x"
            lines.append(f"    {number[event.source or OUTSIDE]}{arrow}{target}: {content}")
    return "\n".join(lines)


def _escape(content: str) -> str:
    """Mermaid's own signs by their codes."""
    return "".join(f"#{ord(sign)};" if sign in "#;<>{}\"'" else sign for sign in content)

"""Query strings as `Plug.Conn.Query.decode/1` reads them: `a=1`, `a[b]=1`, `a[]=1`."""

from __future__ import annotations

from typing import Any

from runtime.http.target import decoded


class InvalidQuery(ValueError):
    """`Plug.Conn.InvalidQueryError`: the response is 400."""


class _Level:
    """The entries of one level (`a`, `a[b]`, `a[]`) in order; the name of `[]` is None."""

    __slots__ = ("below", "entries")

    def __init__(self) -> None:
        self.entries: list[tuple[str | None, Any]] = []
        self.below: dict[str | None, _Level] = {}


def decode(query: str) -> dict[str, Any]:
    """The parameters of a query string. Raises InvalidQuery if they are not UTF-8.

    The last of several equal keys wins; a pair without `=` has the value "". `a[][b]=1&a[][c]=2` is a list of
    one map.
    """
    if "[" not in query and "%" not in query and "+" not in query and query.isascii():  # nearly all
        pairs = [pair.partition("=") for pair in query.split("&") if pair]
        return {key: value for key, _, value in pairs}
    root = _Level()
    for pair in query.split("&"):
        if pair:
            key, _, value = pair.partition("=")
            _put(root, _unescape(key), _unescape(value))
    return _finish(root)


def _unescape(text: str) -> str:
    if "%" not in text and "+" not in text and text.isascii():
        return text
    try:
        return decoded(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise InvalidQuery("query parameters must be UTF-8") from None


def _put(level: _Level, key: str, value: str) -> None:
    start = key.find("[")
    name: str | None = key
    if start > 0 and key.endswith("]"):
        name = key[:start]
        for part in key[start + 1 : -1].split("]["):
            below = level.below.get(name)
            if below is None:
                below = level.below[name] = _Level()
                level.entries.append((name, below))
            level = below
            name = part or None
    level.entries.append((name, value))


def _finish(root: _Level) -> dict[str, Any]:
    params: dict[str, Any] = {}
    stack: list[tuple[_Level, Any]] = [(root, params)]  # not recursive: the client chooses the depth
    while stack:
        level, holder = stack.pop()
        is_list = type(holder) is list
        for name, entry in level.entries:
            if (name is None) is not is_list:
                continue
            value: Any = entry
            if type(entry) is _Level:
                value = [] if entry.entries[-1][0] is None else {}  # the last entry decides
                stack.append((entry, value))
            if is_list:
                holder.append(value)
            else:
                holder[name] = value
    return params

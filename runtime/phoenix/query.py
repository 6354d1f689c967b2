"""Query strings as `Plug.Conn.Query.decode/1` reads them: `a=1`, `a[b]=1`, `a[]=1`."""

from __future__ import annotations

from typing import Any

from runtime.http.target import decoded


class InvalidQuery(ValueError):
    """`Plug.Conn.InvalidQueryError`: the response is 400."""


class _Level:
    """The entries of one level (`a`, `a[b]`, `a[]`) in order; the name of `[]` is None.

    `below` has the level below a name, or where in `entries` the chain is that stands for it.
    """

    __slots__ = ("below", "entries")

    def __init__(self) -> None:
        self.entries: list[tuple[str | None, Any]] = []
        self.below: dict[str | None, _Level | int] = {}

    def expand(self, name: str | None, place: int) -> _Level:
        """Makes a level of the chain below a name, for there is to be more on it."""
        level = self.below[name] = self.entries[place][1].level()
        self.entries[place] = name, level
        return level

    def put_below(self, name: str | None, chain: _Chain) -> None:
        """The first value below a name."""
        self.below[name] = len(self.entries)
        self.entries.append((name, chain))


class _Chain:
    """The levels below a name under which there is one value alone, `names` from `at` on: they may be thousands deep."""

    __slots__ = ("at", "names", "value")

    def __init__(self, names: list[str], at: int, value: str) -> None:
        self.names = names
        self.at = at
        self.value = value

    def level(self) -> _Level:
        """The uppermost as a level of its own."""
        level, name, behind = _Level(), self.names[self.at] or None, self.at + 1
        if behind == len(self.names):
            level.entries.append((name, self.value))
        else:
            level.put_below(name, _Chain(self.names, behind, self.value))
        return level

    def built(self) -> Any:
        """The lists and maps that it stands for."""
        value: Any = self.value
        for at in range(len(self.names) - 1, self.at - 1, -1):
            name = self.names[at]
            value = {name: value} if name else [value]
        return value


def decode(query: str) -> dict[str, Any]:
    """The parameters of a query string. Raises InvalidQuery if they are not UTF-8.

    The last of several equal keys wins; a pair without `=` has the value "". `a[][b]=1&a[][c]=2` is a list of
    one map.
    """
    if "[" not in query and "%" not in query and "+" not in query and query.isascii():  # nearly all
        params: dict[str, Any] = {}
        for pair in query.split("&"):
            if pair:
                key, _, value = pair.partition("=")
                params[key] = value
        return params
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
        names = key[start + 1 : -1].split("][")
        for at, part in enumerate(names):
            below = level.below.get(name)
            if below is None:
                level.put_below(name, _Chain(names, at, value))
                return
            level = below if isinstance(below, _Level) else level.expand(name, below)
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
            if type(entry) is _Chain:
                value = entry.built()
            elif type(entry) is _Level:
                value = [] if entry.entries[-1][0] is None else {}  # the last entry decides
                stack.append((entry, value))
            if is_list:
                holder.append(value)
            else:
                holder[name] = value
    return params

"""Query strings as `Plug.Conn.Query.decode/1` reads them: `a=1`, `a[b]=1`, `a[]=1`."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes


class InvalidQuery(ValueError):
    """`Plug.Conn.InvalidQueryError`: answered with 400."""


def decode(query: str) -> dict[str, Any]:
    """The parameters of a query string. Raises InvalidQuery if they are not UTF-8.

    The last of several equal keys wins; a pair without `=` has the value "".
    """
    params: dict[str, Any] = {}
    for pair in query.split("&"):
        if pair:
            key, _, value = pair.partition("=")
            _put(params, _unescape(key), _unescape(value))
    return params


def _unescape(text: str) -> str:
    if "%" not in text and "+" not in text and text.isascii():
        return text
    try:
        return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise InvalidQuery("query parameters must be UTF-8") from None


def _put(params: dict[str, Any], key: str, value: str) -> None:
    if not key.endswith("]") or "[" not in key:
        params[key] = value
        return
    head, rest = key[:-1].split("[", 1)
    parts = rest.split("][")
    holder: Any = params  # a dict, or a list that the next value joins
    slot: Any = head
    for part in parts:
        inner: Any = None if type(holder) is list else holder.get(slot)
        if part == "":
            if type(inner) is not list:
                inner = []
                _set(holder, slot, inner)
            holder, slot = inner, None
        else:
            if type(inner) is not dict:
                inner = {}
                _set(holder, slot, inner)
            holder, slot = inner, part
    _set(holder, slot, value)


def _set(holder: Any, slot: Any, value: Any) -> None:
    if type(holder) is list:
        holder.append(value)
    else:
        holder[slot] = value

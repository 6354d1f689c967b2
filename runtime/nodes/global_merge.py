"""Merging the name tables of two parts of a cluster, when two nodes connect that did not know each other.

A pure function of both tables. A name that only one side has is inserted on the other. If both have a name for different
processes, the resolver of this side's registration is called once. Source: OTP's `global:exchange_names`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.core.pid import Pid

Resolver = Callable[[str, Pid, Pid], Pid | None]
Names = dict[str, tuple[Pid, str]]  # name -> process, name of the resolver
# (name, new holder or None, name of the resolver)
Operations = list[tuple[str, Pid | None, str]]


def merged(ours: Names, theirs: Names, resolver: Callable[[str], Resolver]) -> tuple[Operations, Operations]:
    """The operations to apply to our side and to theirs. A resolver that raises or returns neither pid frees the name."""
    here: Operations = [(name, *entry) for name, entry in theirs.items() if name not in ours]
    there: Operations = [(name, *entry) for name, entry in ours.items() if name not in theirs]
    for name, (pid, method) in ours.items():
        other, other_method = theirs.get(name, (pid, method))
        if other is pid:
            continue
        winner = _resolved(resolver(method), name, other, pid)
        if winner is pid:
            there.append((name, pid, method))
        elif winner is other:
            here.append((name, other, other_method))
        else:
            here.append((name, None, method))
            there.append((name, None, method))
    return here, there


def _resolved(resolve: Resolver, name: str, theirs: Pid, ours: Pid) -> Any:
    try:
        return resolve(name, theirs, ours)
    except Exception:  # user code; without a decision the name would belong to two processes
        return None

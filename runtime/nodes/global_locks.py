"""`global`'s locks: `set_lock`, `del_lock`, `trans`, and the lock that protects changes of names.

A lock is a row `resource -> requester, holders` at the server of each node it was set on. If one node refuses, `set_lock`
releases the others and retries after a random delay, as in OTP. Names change under a lock on the resource `GLOBAL`, for which
callers wait in a queue; a transaction locks the nodes in the order of their names, so it cannot deadlock.

Holders and waiting processes are monitored: a lock is released when its holder ends or the holder's node is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Final

from runtime.core.engine import current_engine
from runtime.core.exits import Exit
from runtime.core.pid import Pid, Ref
from runtime.nodes import codec, net_kernel
from runtime.nodes.multi_call import multi_call
from runtime.otp import erlang, gen_server

SERVER: Final = "global_name_server"
GLOBAL: Final = "global"  # the resource that is locked to change names
FIRST_PAUSE_MS: Final = 250
MAX_PAUSE_MS: Final = 8000

LockId = tuple[Any, Any]  # resource, requester


@codec.register
@dataclass(frozen=True, slots=True)
class SetLock:
    """Requests a lock; the reply is True if it was granted."""

    id: LockId
    holder: Pid


@codec.register
@dataclass(frozen=True, slots=True)
class Acquire:
    """Requests a lock; the reply comes when it is granted."""

    id: LockId
    holder: Pid


@codec.register
@dataclass(frozen=True, slots=True)
class DelLock:
    """Releases a lock, or stops waiting for it."""

    id: LockId
    holder: Pid


@dataclass(slots=True)
class _Row:
    requester: Any
    holders: dict[Pid, Ref]
    # Requester, holder, monitor, call.
    waiting: deque[tuple[Any, Pid, Ref, Any]] = field(default_factory=deque)


class Locks:
    """The locks of one node, held by its server. Invariant: a row has a holder."""

    def __init__(self) -> None:
        self._rows: dict[Any, _Row] = {}

    def set(self, id: LockId, holder: Pid) -> bool:
        """Grants the lock unless another requester has it; returns True if granted. A requester may have several holders."""
        resource, requester = id
        row = self._rows.get(resource)
        if row is None:
            row = self._rows[resource] = _Row(requester, {})
        elif row.requester != requester:
            return False
        if holder not in row.holders:
            row.holders[holder] = erlang.monitor(holder)
        return True

    def acquire(self, id: LockId, holder: Pid, call: Any) -> bool:
        """As `set`, but if another requester has the lock, queues `call`, which gets the reply True later."""
        if self.set(id, holder):
            return True
        self._rows[id[0]].waiting.append((id[1], holder, erlang.monitor(holder), call))
        return False

    def delete(self, id: LockId, holder: Pid) -> None:
        """Releases the holder's lock and removes it from the queue. Another holder's lock is not affected."""
        row = self._rows.get(id[0])
        if row is None:
            return
        if row.requester == id[1] and holder in row.holders:
            erlang.demonitor(row.holders.pop(holder), flush=True)
        for waiting in list(row.waiting):
            if waiting[:2] == (id[1], holder):
                erlang.demonitor(waiting[2], flush=True)
                row.waiting.remove(waiting)
        self._next(id[0], row)

    def ended(self, ref: Ref) -> None:
        """A holder or a waiting process has ended."""
        for resource, row in list(self._rows.items()):
            row.holders = {pid: monitor for pid, monitor in row.holders.items() if monitor is not ref}
            row.waiting = deque(waiting for waiting in row.waiting if waiting[2] is not ref)
            self._next(resource, row)

    def holds(self, resource: Any, pid: Pid | None) -> bool:
        """True if the process holds a lock on the resource."""
        row = self._rows.get(resource)
        return row is not None and pid in row.holders

    def _next(self, resource: Any, row: _Row) -> None:
        if row.holders:
            return
        if not row.waiting:
            del self._rows[resource]
            return
        row.requester, holder, monitor, call = row.waiting.popleft()
        row.holders[holder] = monitor
        gen_server.reply(call, True)


async def set_lock(id: LockId, nodes: Sequence[str] | None = None, retries: int | None = None) -> bool:
    """`global:set_lock/3`: locks `(resource, requester)` on `nodes`; the same requester may lock it again.

    Returns False after `retries` attempts (None: never gives up). `nodes` defaults to this node and all connected ones.
    """
    asked = sorted(_all_nodes() if nodes is None else nodes)
    holder = erlang.self_()
    tries = 0
    while True:
        replies, _ = await multi_call(SERVER, SetLock(id, holder), nodes=asked)
        if all(answer for _, answer in replies):
            return True
        await multi_call(SERVER, DelLock(id, holder), nodes=[node for node, answer in replies if answer])
        if retries is not None and tries >= retries:
            return False
        spread = int.from_bytes(current_engine().unique_bytes(2), "big") / 65536
        await erlang.sleep(min(MAX_PAUSE_MS, FIRST_PAUSE_MS << min(tries, 5)) * spread)
        tries += 1


async def del_lock(id: LockId, nodes: Sequence[str] | None = None) -> bool:
    """`global:del_lock/2`: True, also if another process has the lock, which then stays."""
    await multi_call(
        SERVER, DelLock(id, erlang.self_()), nodes=sorted(_all_nodes() if nodes is None else nodes)
    )
    return True


async def trans(
    id: LockId, step: Callable[[], Any], nodes: Sequence[str] | None = None, retries: int | None = None
) -> Any:
    """`global:trans/4`: the result of `step` under the lock, or `"aborted"` if the lock was not granted."""
    asked = _all_nodes() if nodes is None else nodes
    if not await set_lock(id, asked, retries):
        return "aborted"
    try:
        result = step()
        return await result if isawaitable(result) else result
    finally:
        await del_lock(id, asked)


async def under_lock(nodes: Sequence[str], step: Callable[[], Awaitable[Any]]) -> Any:
    """Runs `step` with `GLOBAL` locked on `nodes`. Waits for the locks without limit; skips nodes that are lost."""
    holder = erlang.self_()
    id = (GLOBAL, holder)
    order = sorted(nodes)
    try:
        for node in order:
            try:
                await gen_server.call((SERVER, node), Acquire(id, holder), None)
            except Exit:
                continue  # the node is lost, and its names with it
        return await step()
    finally:
        await multi_call(SERVER, DelLock(id, holder), nodes=order)


def _all_nodes() -> list[str]:
    return [net_kernel.node(), *net_kernel.nodes()]

"""Every name that OTP's and Elixir's modules export is here, or stands in docs/runtime.md with the reason why not.

`otp_names.json` is what `erl` 25 and `elixir` 1.14 print as the exports of each module, without the callbacks of processes that
implement it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from runtime import (
    AsyncioEngine,
    DynamicSupervisor,
    GenServer,
    PartitionSupervisor,
    Registry,
    StateMachine,
    Supervisor,
    TaskSupervisor,
    agent,
    dynamic_supervisor,
    erlang,
    gen_event,
    gen_server,
    partition_supervisor,
    proc_lib,
    request_ids,
    special_process,
    state_machine,
    supervisor,
    sys,
    task,
    task_supervisor,
    timer,
)
from runtime.core import exits
from runtime.nodes import erpc, global_locks, global_names, multi_call, net_kernel, pg, rpc, spawning

ROOT = Path(__file__).resolve().parents[2]
EXPORTS: dict[str, str] = json.loads((Path(__file__).parent / "otp_names.json").read_text())
PLACES: dict[str, tuple[Any, ...]] = {
    "gen_server": (gen_server, GenServer, request_ids, multi_call),
    "gen_statem": (state_machine, StateMachine, request_ids, gen_server),
    "gen_event": (gen_event, request_ids),
    "supervisor": (supervisor, Supervisor),
    "proc_lib": (proc_lib,),
    "sys": (sys, special_process),
    "timer": (timer,),
    "pg": (pg,),
    "global": (global_names, global_locks),
    "erpc": (erpc,),
    "rpc": (rpc,),
    "erlang": (erlang, exits, net_kernel, spawning, AsyncioEngine),
    "GenServer": (gen_server, GenServer, multi_call),
    "Agent": (agent, agent.Agent),
    "Task": (task, task_supervisor),
    "Task.Supervisor": (task_supervisor, TaskSupervisor),
    "Supervisor": (supervisor, Supervisor),
    "DynamicSupervisor": (dynamic_supervisor, DynamicSupervisor),
    "PartitionSupervisor": (partition_supervisor, PartitionSupervisor, supervisor),
    "Registry": (Registry,),
    "Process": (erlang,),
}


def is_here(module: str, name: str) -> bool:
    """Python keeps some words for itself: these end with an underscore."""
    return any(hasattr(place, spelling) for place in PLACES[module] for spelling in (name, f"{name}_"))


def left_out() -> dict[str, set[str]]:
    """The names of the table in docs/runtime.md that says why they are not here, or are under another name."""
    text = (ROOT / "docs" / "runtime.md").read_text(encoding="utf-8")
    section = text.split("## Name by name", 1)[1].split("\n## ", 1)[0]
    found: dict[str, set[str]] = {}
    for module, names in re.findall(r"^\| `([\w.]+)` \| ([^|]+) \| [^|]+ \|$", section, re.M):
        found.setdefault(module, set()).update(re.findall(r"`([\w?]+)`", names))
    return found


@pytest.mark.parametrize("module", EXPORTS)
def test_every_exported_name_is_here_or_has_its_reason(module: str) -> None:
    reasons = left_out().get(module, set())
    missing = [name for name in EXPORTS[module].split() if not is_here(module, name) and name not in reasons]
    assert missing == []


@pytest.mark.parametrize("module", EXPORTS)
def test_no_reason_is_given_for_what_is_here_or_nowhere(module: str) -> None:
    names = EXPORTS[module].split()
    assert [name for name in left_out().get(module, ()) if name not in names or is_here(module, name)] == []

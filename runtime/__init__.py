"""The public API of the runtime: OTP's processes and behaviours in Python.

Modules have the names that OTP and Elixir give them, and their functions: `erlang.send`, `gen_server.call`,
`supervisor.start_child`. The classes that a program subclasses or starts are exported beside them. HTTP, Phoenix, nodes,
observers and test support have packages of their own (`runtime.http`, `runtime.phoenix`, `runtime.nodes`, `runtime.observe`,
`runtime.testing`). Whatever neither this `__all__` nor theirs lists is internal. See docs/runtime.md.
"""

from runtime.core import exits, reports, telemetry, turns
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.core.engine import Engine, current_engine
from runtime.core.exits import Error, Exit, Stack, Throw
from runtime.core.pid import Pid, Ref
from runtime.core.reports import Report, describe
from runtime.core.scheduling import TIMEOUT
from runtime.core.signals import Down, ExitMessage
from runtime.otp import (
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
    tree_config,
)
from runtime.otp.callback import Ignore, Ok
from runtime.otp.child_spec import ChildSpec, SupFlags
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.gen_server import CallRequest, From, GenServer, NoReply, Reply, Stop
from runtime.otp.init_ack import StartError
from runtime.otp.partition_supervisor import PartitionSupervisor
from runtime.otp.registry import Registry
from runtime.otp.state_machine import StateMachine
from runtime.otp.supervisor import Supervisor
from runtime.otp.task_supervisor import TaskSupervisor
from runtime.otp.transition import (
    CancelTimeout,
    EventTimeout,
    GenericTimeout,
    InitialState,
    KeepState,
    NextEvent,
    NextState,
    Postpone,
    RepeatState,
    ReplyAction,
    StateTimeout,
    StopAndReply,
    UpdateTimeout,
)
from runtime.thespian.system_base import SystemBase

__all__ = [
    "TIMEOUT",
    "AsyncioEngine",
    "CallRequest",
    "CancelTimeout",
    "ChildSpec",
    "Down",
    "DynamicSupervisor",
    "Engine",
    "Error",
    "EventTimeout",
    "Exit",
    "ExitMessage",
    "From",
    "GenServer",
    "GenericTimeout",
    "Ignore",
    "InitialState",
    "KeepState",
    "NextEvent",
    "NextState",
    "NoReply",
    "Ok",
    "PartitionSupervisor",
    "Pid",
    "Postpone",
    "Ref",
    "Registry",
    "RepeatState",
    "Reply",
    "ReplyAction",
    "Report",
    "Stack",
    "StartError",
    "StateMachine",
    "StateTimeout",
    "Stop",
    "StopAndReply",
    "SupFlags",
    "Supervisor",
    "SystemBase",
    "TaskSupervisor",
    "Throw",
    "UpdateTimeout",
    "agent",
    "current_engine",
    "describe",
    "dynamic_supervisor",
    "erlang",
    "exits",
    "gen_event",
    "gen_server",
    "partition_supervisor",
    "proc_lib",
    "reports",
    "request_ids",
    "special_process",
    "state_machine",
    "supervisor",
    "sys",
    "task",
    "task_supervisor",
    "telemetry",
    "timer",
    "tree_config",
    "turns",
]  # fmt: skip

"""OTP's actor runtime on Thespian: the public face.

Modules carry OTP's and Elixir's names and hold their functions: `erlang.send`, `gen_server.call`, `supervisor.start_child`.
The classes that a program subclasses or starts stand here beside them. What is neither here nor in the face of a room
(`runtime.phoenix`, `runtime.observe`, `runtime.testing`) is private to its room. See docs/runtime.md.
"""

from runtime.core import telemetry
from runtime.core.asyncio_engine import AsyncioEngine
from runtime.core.engine import Engine, current_engine
from runtime.core.exits import Error, Exit, Throw
from runtime.core.pid import Pid, Ref
from runtime.core.reports import describe
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
from runtime.otp.child_spec import ChildSpec, SupFlags
from runtime.otp.dynamic_supervisor import DynamicSupervisor
from runtime.otp.gen_server import From, GenServer
from runtime.otp.init_ack import StartError
from runtime.otp.partition_supervisor import PartitionSupervisor
from runtime.otp.registry import Registry
from runtime.otp.state_machine import StateMachine
from runtime.otp.supervisor import Supervisor
from runtime.otp.task_supervisor import TaskSupervisor
from runtime.thespian.system_base import SystemBase

__all__ = [
    "TIMEOUT",
    "AsyncioEngine",
    "ChildSpec",
    "Down",
    "DynamicSupervisor",
    "Engine",
    "Error",
    "Exit",
    "ExitMessage",
    "From",
    "GenServer",
    "PartitionSupervisor",
    "Pid",
    "Ref",
    "Registry",
    "StartError",
    "StateMachine",
    "SupFlags",
    "Supervisor",
    "SystemBase",
    "TaskSupervisor",
    "Throw",
    "agent",
    "current_engine",
    "describe",
    "dynamic_supervisor",
    "erlang",
    "gen_event",
    "gen_server",
    "partition_supervisor",
    "proc_lib",
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
]  # fmt: skip

"""OTP's `supervisor`: starts children in order, restarts them by its strategy, stops them in reverse order.

It owns its children, which are linked to it, handles their EXIT messages and the requests of the functions below, and ends with
reason `shutdown` after more than `intensity` restarts within `period` seconds. If it is killed, the links end its children.
The strategies are in `runtime.otp.strategies` and `runtime.otp.simple_one_for_one`.

Functions return OTP's results as Python values: `("ok", pid)`, `("error", reason)`, `"ok"`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from runtime.core.exits import Error
from runtime.core.pid import Pid
from runtime.core.signals import ExitMessage
from runtime.otp.child_spec import Child, ChildSpec, SupFlags, check_childspec, check_flags, complete
from runtime.otp.destination import Dest
from runtime.otp.exact_key import ExactDict
from runtime.otp.gen_server import GenServer, Ignore, Ok, Reply, StartError, Stop, call
from runtime.otp.restart import RestartPolicy, TryAgain
from runtime.otp.simple_one_for_one import SimpleOneForOne
from runtime.otp.spec_errors import spec_error
from runtime.otp.stop_server import stop as stop
from runtime.otp.strategies import IN_ORDER, Row, StartFailed, Strategy


class SupervisorRequest(Struct, frozen=True):
    """The request of one of the functions below."""

    function: str
    args: tuple[Any, ...] = ()


class Supervisor(GenServer):
    """The process. Subclass it and return `(SupFlags, [ChildSpec, ...])` or `Ignore()` from `init`, or start it with a list:

    await Supervisor.start_link([ChildSpec("counter", (Counter.start_link, (0,)))], strategy="one_for_one")
    """

    kind: ClassVar[str] = "supervisor"
    flags: SupFlags
    restarts: RestartPolicy
    strategy: Strategy
    children: Mapping[Any, Child]  # of the strategy

    def init(self, children: Sequence[ChildSpec] = (), flags: SupFlags | None = None) -> Any:
        """`Module:init/1`: `(SupFlags, child specs)` or `Ignore()`."""
        return flags or SupFlags(), children

    @classmethod
    async def start_link(
        cls, *args: Any, name: Any = None, timeout: float | None = None, **flags: Any
    ) -> Pid | None:
        """`supervisor:start_link/2,3`: returns when all children have started. `flags` are those of SupFlags.

        Without a subclass the only argument is the list of child specs. If a child fails to start, the others are stopped and
        StartError(("shutdown", ("failed_to_start_child", id, reason))) is raised. A StartError about an invalid spec or flag is a
        ValueError or TypeError too, and its message names the field.
        """
        if flags:
            args = (*args, SupFlags(**flags))
        try:
            return await super().start_link(*args, name=name, timeout=timeout)
        except StartError as error:
            raise spec_error(error, args[0] if args and isinstance(args[0], list | tuple) else ()) from None

    # ---- starting and terminating

    async def _init(self, *args: Any, **kwargs: Any) -> Any:
        self._myRef.own_relations().trap_exit = True
        result = self.init(*args, **kwargs)
        if isinstance(result, Awaitable):
            result = await result
        if isinstance(result, Ignore):
            return result
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], SupFlags)):
            module = type(self).__module__
            return Stop(("bad_return", (module, "init", result)))
        flags, specs = result
        problem = check_flags(flags)
        if problem is not None:
            return Stop(("supervisor_data", problem))
        if not isinstance(specs, list | tuple):
            return Stop(("start_spec", ("badarg", specs)))
        simple = flags.strategy == "simple_one_for_one"
        if simple and len(specs) != 1:  # checked before the spec itself
            return Stop(("bad_start_spec", list(specs)))
        problem = _check_all(specs, flags.auto_shutdown)
        if problem is not None:
            return Stop(("start_spec", problem))
        specs = [complete(spec) for spec in specs]
        self.flags = flags
        self.restarts = RestartPolicy(self, flags.intensity, flags.period)
        if simple:
            self.strategy = SimpleOneForOne(self.restarts, specs[0])
        else:
            self.strategy = IN_ORDER[flags.strategy](self.restarts, specs, flags.auto_shutdown)
        self.children = self.strategy.children
        try:
            await self.strategy.start()
        except StartFailed as failure:
            await self.strategy.stop()
            return Stop(("shutdown", ("failed_to_start_child", failure.child.spec.id, failure.reason)))
        return Ok()

    async def terminate(self, reason: Any) -> None:
        await self.strategy.stop()

    # ---- children that end

    async def handle_info(self, message: Any) -> Any:
        match message:
            case ExitMessage(pid, reason) if (child := self.strategy.by_pid(pid)) is not None:
                return await self._child_ended(child, reason)
            case TryAgain(key):  # after a backoff
                return await self._try_again(key)
        return None

    async def handle_cast(self, request: Any) -> Any:
        match request:
            case TryAgain(key):
                return await self._try_again(key)
        raise Error("function_clause")  # as in OTP, an unknown request ends it

    async def _child_ended(self, child: Child, reason: Any) -> Stop | None:
        if self.restarts.wants(child, reason):
            if child.spec.backoff is None:
                return await self._restart(child)
            self.strategy.restart_later(child)
            return None
        self.strategy.forget(child)
        return Stop("shutdown") if self._shuts_down_after(child) else None

    def _shuts_down_after(self, child: Child) -> bool:
        """True if `auto_shutdown` ends the supervisor after the end of this child, which is not restarted."""
        if not child.spec.significant or self.flags.auto_shutdown == "never":
            return False
        return self.flags.auto_shutdown == "any_significant" or not self.strategy.any_significant()

    async def _try_again(self, key: Any) -> Stop | None:
        child = self.strategy.restarting(key)
        return None if child is None else await self._restart(child)

    async def _restart(self, child: Child) -> Stop | None:
        if not self.restarts.allows(child):
            self.strategy.forget(child)
            return Stop("shutdown")
        await self.strategy.restart(child)
        return None

    # ---- requests

    async def handle_call(self, request: Any, from_: Any) -> Any:
        strategy = self.strategy
        match request:
            case SupervisorRequest("start_child", (spec,)):
                return Reply(await strategy.start_child(spec))
            case SupervisorRequest("terminate_child", (key,)):
                return Reply(await strategy.terminate_child(key))
            case SupervisorRequest("restart_child", (key,)):
                return Reply(await strategy.restart_child(key))
            case SupervisorRequest("delete_child", (key,)):
                return Reply(strategy.delete_child(key))
            case SupervisorRequest("get_childspec", (key,)):
                child = strategy.find(key)
                return Reply(("error", "not_found") if child is None else ("ok", child.spec))
            case SupervisorRequest("which_children"):
                return Reply(strategy.which_children())
            case SupervisorRequest("count_children"):
                return Reply(strategy.count_children())
            case SupervisorRequest("children", page):
                return Reply(copies(list(self.children.values()), *page))
        raise Error("function_clause")


# ---- the functions of the module


async def start_child(sup: Dest, spec: Any) -> Any:
    """`supervisor:start_child/2`: `("ok", pid)`, `("ok", None)` for ignore, `("ok", pid, info)` or `("error", reason)`.

    For simple_one_for_one `spec` is a list of extra arguments.
    """
    return await call(sup, SupervisorRequest("start_child", (spec,)), None)


async def terminate_child(sup: Dest, key: Any) -> Any:
    """`supervisor:terminate_child/2` by id (by pid for simple_one_for_one): `"ok"` or `("error", reason)`."""
    return await call(sup, SupervisorRequest("terminate_child", (key,)), None)


async def restart_child(sup: Dest, key: Any) -> Any:
    """`supervisor:restart_child/2`: starts a terminated child: `("ok", pid)` or `("error", reason)`."""
    return await call(sup, SupervisorRequest("restart_child", (key,)), None)


async def delete_child(sup: Dest, key: Any) -> Any:
    """`supervisor:delete_child/2`: removes a terminated child: `"ok"` or `("error", reason)`."""
    return await call(sup, SupervisorRequest("delete_child", (key,)), None)


async def get_childspec(sup: Dest, key: Any) -> Any:
    """`supervisor:get_childspec/2`: `("ok", ChildSpec)` or `("error", "not_found")`."""
    return await call(sup, SupervisorRequest("get_childspec", (key,)), None)


async def which_children(sup: Dest) -> list[Row]:
    """`supervisor:which_children/1`: `(id, pid | None | "restarting", type, modules)`, last started first."""
    return await call(sup, SupervisorRequest("which_children"), None)


def check_childspecs(specs: Any, auto_shutdown: str = "never") -> Any:
    """`supervisor:check_childspecs/1,2`: "ok", or ("error", reason) for the first invalid spec or a duplicate id.

    With `auto_shutdown` "never" (OTP's default is `undefined`) `significant` is not checked.
    """
    if not isinstance(specs, list | tuple):
        return ("error", ("badarg", specs))
    problem = _check_all(specs, auto_shutdown, auto_shutdown != "never")
    return "ok" if problem is None else ("error", problem)


def _check_all(specs: Sequence[Any], auto_shutdown: str, significance: bool = True) -> Any:
    """None if the child specs are valid and their ids differ, else OTP's error reason."""
    ids: ExactDict[None] = ExactDict()
    for spec in specs:
        problem = check_childspec(spec, auto_shutdown, significance)
        if problem is not None:
            return problem
        if spec.id in ids:
            return ("duplicate_child_name", spec.id)
        ids[spec.id] = None
    return None


async def count_children(sup: Dest) -> dict[str, int]:
    """`supervisor:count_children/1`: specs, active, supervisors, workers."""
    return await call(sup, SupervisorRequest("count_children"), None)


def copies(children: Sequence[Child], offset: int = 0, limit: int | None = None) -> list[Child]:
    """Copies of `limit` children from `offset` on: a list of many thousands would block the loop."""
    return [replace(child) for child in children[offset : None if limit is None else offset + limit]]


async def children(sup: Dest) -> list[Child]:
    """Copies of the children with their restart counts, in start order. An extension for observers."""
    return await call(sup, SupervisorRequest("children"), None)

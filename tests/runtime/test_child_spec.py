"""Child specs: what is wrong with them, and `child_spec`."""

from __future__ import annotations

from typing import Any

from runtime import ChildSpec, GenServer, Supervisor, gen_server, supervisor
from runtime.otp.gen_server import Reply
from runtime.testing.simulation import play


class Server(GenServer):
    def init(self, start: int) -> None:
        self.value = start

    def handle_call(self, request: Any, from_: Any) -> Any:
        return Reply((type(self).__name__, self.value))


def test_child_specs() -> None:
    async def body() -> None:
        spec = Server.child_spec(5, name="child", restart="transient")
        assert (spec.id, spec.restart, spec.type, spec.modules) == (Server, "transient", "worker", (Server,))
        assert Supervisor.child_spec([], id="sup").type == "supervisor"
        assert supervisor.check_childspecs([spec]) == "ok"
        assert supervisor.check_childspecs([spec, spec]) == ("error", ("duplicate_child_name", Server))
        wrong = ChildSpec(1, (print, ()), restart="often")  # type: ignore[arg-type]
        assert supervisor.check_childspecs([spec, wrong]) == ("error", ("invalid_restart_type", "often"))
        await Supervisor.start_link([spec])
        assert await gen_server.call("child", "who") == ("Server", 5)

    play(body)

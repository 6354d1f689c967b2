"""The supervisor of the bridges to Go services; below it is one supervisor for each service, with its breaker and its bridge.

    bridges - services.go - breaker.go, bridge.go

It owns nothing else. The services are those of the settings GO_API_URL and SERVICES. If a bridge or breaker keeps crashing, its
service's supervisor gives up and is restarted by this one; other services are not affected.
"""

from __future__ import annotations

from typing import Any

from actors import settings
from actors.bridges.circuit_breaker import CircuitBreaker
from actors.bridges.go_bridge import GoBridge
from runtime import ChildSpec, Pid, Supervisor, SupFlags, gen_server


def bridge_name(service: str) -> str:
    """The registered name of a service's bridge."""
    return f"bridge.{service}"


def breaker_name(service: str) -> str:
    """The registered name of a service's circuit breaker."""
    return f"breaker.{service}"


async def start_service(
    service: str, url: str, bridge: dict[str, Any], breaker: dict[str, Any]
) -> Pid | None:
    """Starts breaker and bridge of one service under a supervisor of their own."""
    children = [
        ChildSpec(breaker_name(service), (_start_breaker, (service, breaker))),
        ChildSpec(bridge_name(service), (_start_bridge, (service, url, bridge))),
    ]
    flags = SupFlags("one_for_one", intensity=5, period=5)
    return await Supervisor.start_link(children, flags, name=f"services.{service}")


async def _start_breaker(service: str, options: dict[str, Any]) -> Pid | None:
    return await gen_server.start_actor(
        CircuitBreaker(), (service,), link=True, name=breaker_name(service), kwargs=options
    )


async def _start_bridge(service: str, url: str, options: dict[str, Any]) -> Pid | None:
    arguments = (service, url, breaker_name(service))
    return await gen_server.start_actor(
        GoBridge(), arguments, link=True, name=bridge_name(service), kwargs=options
    )


class Bridges(Supervisor):
    """The supervisor of all services. The arguments are those of `GoBridge` and `CircuitBreaker`; times in ms."""

    def init(  # type: ignore[override]
        self,
        deadline: float = 10_000,
        max_concurrency: int = 32,
        max_waiting: int = 128,
        failures: int = 5,
        reset: float = 1000,
        longest: float = 30_000,
    ) -> tuple[SupFlags, list[ChildSpec]]:
        bridge = {"deadline": deadline, "max_concurrency": max_concurrency, "max_waiting": max_waiting}
        breaker = {"failures": failures, "reset": reset, "longest": longest, "trial": deadline + 5000}
        children = [
            ChildSpec(service, (start_service, (service, url, bridge, breaker)), type="supervisor")
            for service, url in settings.current().go_services().items()
        ]
        return SupFlags("one_for_one", intensity=10, period=10), children

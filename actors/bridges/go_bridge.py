"""The bridge to one Go service: HTTP with a deadline, bounded concurrency, retries and a circuit breaker.

It owns the connections to the service. Calls: `Forward` -> `ServiceResponse` or `BridgeError`. Each call has a process of its
own, so calls don't wait for each other, and one that crashes fails alone. Beyond `max_concurrency` calls wait, beyond
`max_waiting` more they are refused. If the bridge crashes, its callers get its exit reason and the connections are closed.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from actors.bridges.circuit_breaker import AttemptFailed, AttemptSucceeded, Granted, Permit, Refused
from runtime import (
    CallRequest,
    Down,
    From,
    GenServer,
    NoReply,
    Ref,
    Reply,
    Stop,
    erlang,
    gen_server,
    state_machine,
    telemetry,
)

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
RETRIES: Final = 2
RETRY_MS: Final = 50  # before the first retry, doubled for the next, with full jitter
STATUSES: Final = range(200, 600)  # of final responses
CALL_STOP: Final = ("bridge", "call", "stop")
# Hop-by-hop fields, and fields that BitNexus sets itself.
_NOT_FORWARDED: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade",
     "content-length", "content-encoding", "date", "server", "set-cookie",
     "x-request-id", "access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Forward(CallRequest["ServiceResponse | BridgeError"]):
    """A request for the service. `target` is path and query as the client sent them; `headers` are the fields to forward."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class ServiceResponse:
    """The service's answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class BridgeError:
    """No answer: `code` is unavailable, timeout, bad_answer or overload; `retry_after` in ms."""

    code: str
    message: str
    retry_after: float = 1000


class GoBridge(GenServer):
    """The bridge to `service` at `url`. `deadline` is in ms for a whole call, retries included; `max_answer` in bytes."""

    def init(
        self,
        service: str,
        url: str,
        breaker: str,
        deadline: float = 10_000,
        max_concurrency: int = 32,
        max_waiting: int = 128,
        max_answer: int = 8_000_000,
    ) -> None:
        erlang.trap_exit(True)
        self.service = service
        # Private, so that operators can't replace it and redirect callers' tokens.
        self._url = url.rstrip("/")
        self.breaker = breaker
        self.deadline = deadline
        self.max_concurrency = max_concurrency
        self.max_waiting = max_waiting
        self.max_answer = max_answer
        self.running: dict[Ref, From] = {}
        self.waiting: deque[tuple[Forward, From, float]] = deque()
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_concurrency),
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def handle_call(self, request: Any, from_: From) -> Any:
        match request:
            case Forward():
                due = erlang.monotonic_time() + self.deadline
                if len(self.running) < self.max_concurrency:
                    self._start(request, from_, due)
                elif len(self.waiting) < self.max_waiting:
                    self.waiting.append((request, from_, due))
                else:
                    return Reply(
                        BridgeError("overload", f"Too many calls wait for the service {self.service}")
                    )
                return NoReply()
        return Stop(("bad_call", request))

    def handle_info(self, message: Any) -> Any:
        match message:
            case Down(ref, _, reason) if ref in self.running:
                from_ = self.running.pop(ref)
                if reason != "normal":
                    gen_server.reply(
                        from_, BridgeError("unavailable", f"The call to the service {self.service} crashed")
                    )
                while self.waiting and len(self.running) < self.max_concurrency:
                    self._start(*self.waiting.popleft())
        return None

    async def terminate(self, reason: Any) -> None:
        await self.session.close()

    def _start(self, request: Forward, from_: From, due: float) -> None:
        _, ref = erlang.spawn(self._forward, request, from_, due, monitor=True)
        self.running[ref] = from_

    # ---- the process of one call

    async def _forward(self, request: Forward, from_: From, due: float) -> None:
        started = erlang.monotonic_time()
        answer = await self._attempts(request, due)
        gen_server.reply(from_, answer)
        outcome = str(answer.status) if isinstance(answer, ServiceResponse) else answer.code
        telemetry.execute(
            CALL_STOP,
            {"duration": (erlang.monotonic_time() - started) / 1000},
            {"service": self.service, "method": request.method, "outcome": outcome},
        )

    async def _attempts(self, request: Forward, due: float) -> ServiceResponse | BridgeError:
        tries = 1 + (RETRIES if request.method in IDEMPOTENT else 0)
        answer: ServiceResponse | BridgeError = BridgeError(
            "timeout", f"The deadline for the service {self.service} was over before the call"
        )
        for attempt in range(tries):
            if attempt:
                pause = random.uniform(0, RETRY_MS * 2**attempt)
                if erlang.monotonic_time() + pause >= due:
                    break
                await erlang.sleep(pause)
            left = due - erlang.monotonic_time()
            if left <= 0:
                break
            match await state_machine.call(self.breaker, Permit(), left):
                case Refused(retry_after):
                    return BridgeError(
                        "unavailable", f"The service {self.service} is not available", retry_after
                    )
                case Granted():
                    pass
            answer = await self._attempt(request, left)
            if isinstance(answer, ServiceResponse) and answer.status < 500:
                gen_server.cast(self.breaker, AttemptSucceeded())
                return answer
            why = f"status {answer.status}" if isinstance(answer, ServiceResponse) else answer.message
            gen_server.cast(self.breaker, AttemptFailed(why))
        return answer

    async def _attempt(self, request: Forward, left: float) -> ServiceResponse | BridgeError:
        try:
            async with (
                asyncio.timeout(left / 1000),
                self.session.request(
                    request.method,
                    URL(self._url + request.target, encoded=True),
                    headers=request.headers,
                    data=request.body or None,
                    allow_redirects=False,
                ) as response,
            ):
                if response.status not in STATUSES:
                    return BridgeError(
                        "bad_answer", f"The service {self.service} answered with status {response.status}"
                    )
                body = await response.content.read(self.max_answer + 1)
                while len(body) <= self.max_answer and (more := await response.content.read(self.max_answer)):
                    body += more
                if len(body) > self.max_answer:
                    return BridgeError(
                        "bad_answer",
                        f"The answer of the service {self.service} is larger than {self.max_answer} bytes",
                    )
                named = ",".join(response.headers.getall("connection", ())).lower().split(",")
                dropped = _NOT_FORWARDED.union(name.strip() for name in named)
                headers = tuple(
                    (name.lower(), value)
                    for name, value in response.headers.items()
                    if name.lower() not in dropped
                )
                return ServiceResponse(response.status, headers, body)
        except TimeoutError:
            return BridgeError("timeout", f"The service {self.service} did not answer in time")
        except aiohttp.ClientConnectionError as error:
            return BridgeError(
                "unavailable", f"The service {self.service} can't be reached ({type(error).__name__})"
            )
        except (aiohttp.ClientError, ValueError) as error:
            return BridgeError(
                "bad_answer", f"The service {self.service} sent an invalid answer ({type(error).__name__})"
            )

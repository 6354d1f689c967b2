"""A counter under a supervisor: told to crash, it is replaced. Run: python -m examples.counter"""

import asyncio
from functools import partial

from runtime.core.asyncio_engine import AsyncioEngine
from runtime.otp import erlang
from runtime.otp.gen_server import GenServer, Reply, call, cast
from runtime.otp.supervisor import ChildSpec, Supervisor


class Counter(GenServer):
    def init(self, start):
        self.count = start

    def handle_cast(self, amount):
        self.count += amount

    def handle_call(self, request, from_):
        return Reply(self.count)


async def main():
    engine = AsyncioEngine().start()
    start = partial(Counter.start_link, name="counter")
    await Supervisor.start_link([ChildSpec("counter", (start, (10,)))])
    cast("counter", 5)
    print("count:", await call("counter", "value"))
    cast("counter", "nonsense")
    await erlang.sleep(5)
    print("after the crash:", await call("counter", "value"))
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())

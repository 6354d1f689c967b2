"""A counter under a supervisor: told to crash, it is replaced. Run: python -m examples.counter"""

import asyncio
from functools import partial

from runtime import AsyncioEngine, ChildSpec, GenServer, Supervisor, erlang, gen_server


class Counter(GenServer):
    def init(self, start):
        self.count = start

    def handle_cast(self, amount):
        self.count += amount

    def handle_call(self, request, from_):
        return gen_server.Reply(self.count)


async def main():
    engine = AsyncioEngine().start()
    start = partial(Counter.start_link, name="counter")
    await Supervisor.start_link([ChildSpec("counter", (start, (10,)))])
    gen_server.cast("counter", 5)
    print("count:", await gen_server.call("counter", "value"))
    gen_server.cast("counter", "nonsense")
    await erlang.sleep(5)
    print("after the crash:", await gen_server.call("counter", "value"))
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())

"""A pool of workers: a key always finds the same one. Run: python -m examples.worker_pool"""

import asyncio

from runtime import (
    AsyncioEngine,
    ChildSpec,
    GenServer,
    PartitionSupervisor,
    Reply,
    TaskSupervisor,
    erlang,
    gen_server,
    partition_supervisor,
    task_supervisor,
)


class Worker(GenServer):
    def init(self):
        self.jobs = 0

    async def handle_call(self, job, from_):
        await erlang.sleep(10)  # this worker waits, the others work
        self.jobs += 1
        return Reply(f"{job}, job {self.jobs} of its worker")


def submit(job):
    return gen_server.call(partition_supervisor.via("workers", job), job)


async def submit_all():
    jobs = ["ann", "eve", "ann"]
    async for status, value in task_supervisor.async_stream_nolink("jobs", jobs, submit):
        print(status, value)


async def main():
    engine = AsyncioEngine().start()
    await PartitionSupervisor.start_link(ChildSpec("w", (Worker.start_link, ())), 3, name="workers")
    await TaskSupervisor.start_link(name="jobs")
    await erlang.await_down(erlang.spawn(submit_all))
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())

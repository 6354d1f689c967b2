"""A chat room: plain processes that monitor each other. Run: python -m examples.chat_room"""

import asyncio

from runtime import AsyncioEngine, erlang


async def room():
    members = {}
    while True:
        match await erlang.receive():
            case ("join", pid, name):
                erlang.monitor(pid)
                members[pid] = name
                news = f"{name} joined"
            case erlang.Down(_, pid, reason):
                news = f"{members.pop(pid)} left: {reason}"
        for pid in members:
            erlang.send(pid, news)


async def member(name):
    erlang.send("room", ("join", erlang.self_(), name))
    while True:
        print(f"{name} hears: {await erlang.receive()}")


async def main():
    engine = AsyncioEngine().start()
    erlang.spawn(room, name="room")
    ann, _bob = erlang.spawn(member, "ann"), erlang.spawn(member, "bob")
    await erlang.sleep(5)
    erlang.exit(ann, "connection lost")
    await erlang.sleep(5)
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())

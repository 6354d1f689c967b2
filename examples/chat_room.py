"""A chat room as a server: join "room:lobby" at ws://127.0.0.1:PORT/socket. Run: python -m examples.chat_room [PORT]"""

import asyncio
import sys

from runtime import AsyncioEngine, DynamicSupervisor, erlang
from runtime.http import HttpOptions, Response, Server, ServerOptions, addresses
from runtime.phoenix import Accept, Channel, Endpoint, Mount, Mounts, PubSub, Socket, SocketTransports
from runtime.phoenix.drainer import Sockets


async def room():
    members = {}
    while True:
        match await erlang.receive():
            case ("join", pid, name):
                erlang.monitor(pid)
                members[pid] = name
                news = f"{name} joined"
            case erlang.Down(_, pid, _reason):
                news = f"{members.pop(pid)} left"
        for pid in members:
            erlang.send(pid, news)


class Member(Channel):
    def join(self, topic, payload, socket):
        erlang.send("room", ("join", self.pid, str(payload["name"])))
        return Accept()

    def handle_in(self, event, payload):
        self.broadcast("said", payload)

    def handle_info(self, news):
        self.push("news", {"text": news})


class UserSocket(Socket):
    channels = {"room:*": Member}

    def connect(self, params, connect_info):
        return Accept()


async def main(port=0):
    AsyncioEngine().start()
    erlang.spawn(room, name="room")
    for part, name in ((PubSub, "pubsub"), (DynamicSupervisor, "channels"), (Sockets, "sockets")):
        await part.start(name=name)
    sockets = SocketTransports(lambda _: Response(404), Endpoint(), Mounts([Mount("/socket", UserSocket)]))
    options = ServerOptions(port=port, http=HttpOptions(upgradable=sockets.upgradable))
    ((host, port),) = await addresses(await Server.start(sockets, options))
    print(f"the chat room is open on http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))

"""The Phoenix socket: protocol, sockets, channels, transports. No product in here."""

from runtime.phoenix.channel import Channel, NoReply, Reply, SocketRef, Stop, reply
from runtime.phoenix.drainer import Sockets, drain
from runtime.phoenix.endpoint import Endpoint, broadcast, broadcast_from
from runtime.phoenix.messages import Broadcast, Error, Ok
from runtime.phoenix.mount import LongPollOptions, Mount, Mounts, WebSocketOptions
from runtime.phoenix.request import Request, Response
from runtime.phoenix.socket import UserSocket
from runtime.phoenix.transports import SocketTransports

__all__ = [
    "Broadcast", "Channel", "Endpoint", "Error", "LongPollOptions", "Mount", "Mounts", "NoReply", "Ok",
    "Reply", "Request", "Response", "SocketRef", "SocketTransports", "Sockets", "Stop", "UserSocket", "WebSocketOptions",
    "broadcast", "broadcast_from", "drain", "reply",
]  # fmt: skip

"""The Phoenix socket: protocol, sockets, channels, transports. No product in here."""

from runtime.phoenix.channel import Channel, NoReply, Reply, SocketRef, Stop, reply
from runtime.phoenix.drainer import Sockets, drain
from runtime.phoenix.endpoint import Endpoint, broadcast, broadcast_from
from runtime.phoenix.messages import Accept, Broadcast, Refuse
from runtime.phoenix.mount import LongPollOptions, Mount, Mounts, WebSocketOptions
from runtime.phoenix.request import TransportRequest, TransportResponse
from runtime.phoenix.socket import Socket
from runtime.phoenix.transports import SocketTransports

__all__ = [
    "Accept",
    "Broadcast",
    "Channel",
    "Endpoint",
    "LongPollOptions",
    "Mount",
    "Mounts",
    "NoReply",
    "Refuse",
    "Reply",
    "Socket",
    "SocketRef",
    "SocketTransports",
    "Sockets",
    "Stop",
    "TransportRequest",
    "TransportResponse",
    "WebSocketOptions",
    "broadcast",
    "broadcast_from",
    "drain",
    "reply",
]  # fmt: skip

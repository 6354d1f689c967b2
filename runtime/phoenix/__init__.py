"""Phoenix on OTP: sockets, channels, PubSub and Presence, and their WebSocket and LongPoll transports.

Public modules: `check_origin`, `drainer`, `endpoint`, `presence`, `pubsub`.
"""

from runtime.phoenix import check_origin, drainer, endpoint, presence, pubsub
from runtime.phoenix.channel import Channel, NoReply, Reply, SocketRef, Stop, reply
from runtime.phoenix.drainer import Sockets, drain
from runtime.phoenix.endpoint import Endpoint, broadcast, broadcast_from
from runtime.phoenix.messages import Accept, Broadcast, Refuse
from runtime.phoenix.mount import LongPollOptions, Mount, Mounts, WebSocketOptions
from runtime.phoenix.presence import Presence
from runtime.phoenix.pubsub import PubSub
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
    "Presence",
    "PubSub",
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
    "check_origin",
    "drain",
    "drainer",
    "endpoint",
    "presence",
    "pubsub",
    "reply",
]  # fmt: skip

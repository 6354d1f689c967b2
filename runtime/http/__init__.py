"""HTTP/1.1 for a server.

A connection as a state machine on llhttp, its asyncio transport, a supervised server, WebSocket upgrades.
"""

from runtime.http.body import BodyError
from runtime.http.messages import Request, Response, Upgrade
from runtime.http.options import HttpOptions, ServerOptions
from runtime.http.server import Server

__all__ = ["BodyError", "HttpOptions", "Request", "Response", "Server", "ServerOptions", "Upgrade"]

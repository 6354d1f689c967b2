"""An HTTP/1.1 server: a connection as a sans-IO state machine on llhttp, its asyncio transport, a supervised server process.

Public modules: `admission` (load shedding), `body`, `messages`, `response_encoder`, `server`, `target`.
"""

from runtime.http import admission, body, messages, response_encoder, server, target
from runtime.http.body import BodyError
from runtime.http.messages import Request, Response, Upgrade
from runtime.http.options import HttpOptions, ServerOptions
from runtime.http.server import Server, addresses, bind

__all__ = [
    "BodyError",
    "HttpOptions",
    "Request",
    "Response",
    "Server",
    "ServerOptions",
    "Upgrade",
    "addresses",
    "admission",
    "bind",
    "body",
    "messages",
    "response_encoder",
    "server",
    "target",
]  # fmt: skip

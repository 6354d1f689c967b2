"""An HTTP/1.1 server: a connection as a sans-IO state machine on llhttp, its asyncio transport, a supervised server process.

Public modules: `admission` (load shedding), `answer`, `body`, `messages`, `server`, `target`.
"""

from runtime.http import admission, answer, body, messages, server, target
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
    "answer",
    "bind",
    "body",
    "messages",
    "server",
    "target",
]  # fmt: skip

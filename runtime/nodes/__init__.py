"""Distribution: several nodes that form one system, as in Erlang; see docs/nodes.md.

Import `nats` and `nats_client` as modules: they are not loaded here, because a single node needs no NATS.
"""

from runtime.nodes import codec, erpc, fabric, global_names, multi_call, net_kernel, pg, rpc, spawning
from runtime.nodes.node import Node

__all__ = [
    "Node",
    "codec",
    "erpc",
    "fabric",
    "global_names",
    "multi_call",
    "nats",  # pyright: ignore[reportUnsupportedDunderAll] - a module of the package, not imported here
    "nats_client",  # pyright: ignore[reportUnsupportedDunderAll]
    "net_kernel",
    "pg",
    "rpc",
    "spawning",
]  # fmt: skip

"""Several nodes as one system, as Erlang's distribution makes them; see docs/nodes.md.

Public modules are those in `__all__`. `nats` and `nats_client` are imported by whoever uses them: a node alone needs no NATS.
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

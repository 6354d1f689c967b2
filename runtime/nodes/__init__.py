"""Several nodes as one system, as Erlang's distribution makes them: see docs/nodes.md."""

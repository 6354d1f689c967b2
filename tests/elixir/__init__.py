"""The same small programs in Elixir and on the runtime: `python -m tests.elixir`."""

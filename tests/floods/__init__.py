"""Floods against a running server: `python -m tests.floods`."""

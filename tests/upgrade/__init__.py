"""A rolling upgrade under load: what clients see of it. `python -m tests.upgrade` runs it in full."""

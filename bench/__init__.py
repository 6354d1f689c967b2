"""Benchmarks: one file a question. `python -m bench` runs all and prints one table each."""

"""Measurements beside peers, and beside an earlier commit, in one run: `make bench`, `python -m bench --help`.

`figures` keeps the measured values and compares them, `table` and `plots` show them. The contestants are `bitnexus serve` of a
commit (`bitnexus`, `revision`) and the programs of peers/ (`peer`); `process` reads their CPU and memory; `http_load`,
`socket_load` and `overload_load` are the clients. Each file of `benchmarks/` declares rows and measures them in a `run`:
contestants, rounds, options and progress.

The figures are CPU seconds of the measured processes, from the kernel's scheduler, and their ratios within one run. Wall-clock
times depend on the machine's load, and are marked with `~`.
"""

"""Measurements beside peers, and beside an earlier commit, in one run: `make bench`, `python -m bench --help`.

`figures` keeps what was measured and compares it, `table` and `plots` show it. Measured are `bitnexus serve` of a commit
(`bitnexus`, `revision`) and the programs of peers/ (`peer`); `process` reads what they cost, `http_load`, `socket_load` and
`overload_load` are the clients. A file of `questions/` declares rows and measures them; `run` is what it is given: contestants,
rounds, options and progress.

The facts are CPU seconds of the measured processes, from the kernel's scheduler, and their ratios in the same run. Wall-clock is
weather: printed, and marked with `~`.
"""

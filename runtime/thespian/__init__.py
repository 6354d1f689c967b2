"""Thespian on the core: a system base that runs plain Thespian actors."""

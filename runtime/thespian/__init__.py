"""Thespian's face on the core: the system base that runs plain Thespian actors."""

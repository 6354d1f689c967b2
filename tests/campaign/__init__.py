"""The crash campaign: clients that keep a log, faults drawn from a seed, and a checker that believes none of the servers."""

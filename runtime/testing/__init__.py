"""Deterministic tests of processes: virtual time, a seeded scheduler, explored interleavings."""

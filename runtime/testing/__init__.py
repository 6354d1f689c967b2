"""Deterministic tests of processes: virtual time, a seeded scheduler, explored interleavings."""

from runtime.testing import cluster_histories, sequence_chart, shrinking
from runtime.testing.cluster import Cluster
from runtime.testing.deterministic_engine import DeterministicEngine
from runtime.testing.simulation import Simulation

__all__ = [
    "Cluster",
    "DeterministicEngine",
    "Simulation",
    "cluster_histories",
    "sequence_chart",
    "shrinking",
]  # fmt: skip

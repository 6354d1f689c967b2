"""Elixir's `Telemetry.Metrics`: definitions of metrics on telemetry events, and a store that aggregates them.

Definitions are values: `Counter`, `Sum`, `LastValue`, `Distribution`. `Store.attach()` subscribes to their events; exporters read
`Store.series`. A metric has at most MAX_SERIES combinations of tags; further ones are counted under the tags `other`, which
bounds the memory.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from runtime.core import telemetry
from runtime.core.telemetry import Event

MAX_SERIES: Final = 300
OTHER: Final = "other"
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Tags = tuple[str, ...]
TagValues = Callable[[Mapping[str, Any]], Mapping[str, Any]]
_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of `event`: the name of the `measurement` (None: counts events), and `tags`, the metadata that identify a series.

    `keep` filters executions; `tag_values` computes tags from metadata. `made_of` names the metadata that `tag_values` reads, if
    these are two or more hashable values, so that its results can be cached.
    """

    name: str
    event: Event
    help: str
    measurement: str | None = None
    tags: tuple[str, ...] = ()
    keep: Callable[[Mapping[str, Any]], bool] | None = None
    tag_values: TagValues | None = None
    made_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counter(Metric):
    """`Telemetry.Metrics.counter/2`: the number of events."""


@dataclass(frozen=True, slots=True)
class Sum(Metric):
    """`Telemetry.Metrics.sum/2`: the total of a measurement."""


@dataclass(frozen=True, slots=True)
class LastValue(Metric):
    """`Telemetry.Metrics.last_value/2`: the last measurement."""


@dataclass(frozen=True, slots=True)
class Distribution(Metric):
    """`Telemetry.Metrics.distribution/2`: a histogram; `buckets` are ascending upper bounds, without infinity."""

    buckets: tuple[float, ...] = field(default=SECONDS)


@dataclass(slots=True)
class Histogram:
    """The observations of one series of a distribution; the last bucket holds those above the greatest bound."""

    bounds: tuple[float, ...]
    buckets: list[int]
    count: int = 0
    sum: float = 0.0


def percentile(bounds: Sequence[float], buckets: Sequence[int], share: float) -> float | None:
    """The percentile `share` (0 to 1) of the observations, interpolated within its bucket; None without observations."""
    total = sum(buckets)
    if total == 0:
        return None
    rank = share * total
    seen = 0
    for index, count in enumerate(buckets):
        if count and seen + count >= rank:
            if index == len(bounds):
                return bounds[-1]
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * max(0.0, rank - seen) / count
        seen += count
    return bounds[-1]


def _handler(metrics: Iterable[tuple[Metric, dict[Tags, Any]]]) -> telemetry.Handler:
    """The telemetry handler of one event: one function for all its metrics, so that an execution does little work."""
    steps = [
        (metric, metric.keep, metric.measurement, _tag_reader(metric), type(metric) is LastValue, series)
        for metric, series in metrics
    ]

    def handle(_event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        for metric, keep, measurement, read_tags, is_last, series in steps:
            if keep is not None and not keep(metadata):
                continue
            figure = 1 if measurement is None else measurements.get(measurement)
            if figure is None:
                continue
            tags = () if read_tags is None else read_tags(metadata)
            known = series.get(tags)
            if known is None:
                tags, known = _begun(metric, series, tags)
            if type(known) is Histogram:
                known.buckets[bisect_left(known.bounds, figure)] += 1
                known.count += 1
                known.sum += figure
            else:
                series[tags] = figure if is_last else known + figure

    return handle


def _begun(metric: Metric, series: dict[Tags, Any], tags: Tags) -> tuple[Tags, Any]:
    """The tags and the value of a series that was not there; beyond MAX_SERIES those of the series `other`."""
    if len(series) >= MAX_SERIES:
        tags = (OTHER,) * len(tags)
    new = Histogram(metric.buckets, [0] * (len(metric.buckets) + 1)) if type(metric) is Distribution else 0
    return tags, series.setdefault(tags, new)


def _tag_reader(metric: Metric) -> Callable[[Mapping[str, Any]], Tags] | None:
    names, values_of = metric.tags, metric.tag_values
    if not names:
        return None
    if values_of is None:
        return lambda metadata: tuple([str(metadata.get(name, "")) for name in names])

    def read(metadata: Mapping[str, Any]) -> Tags:
        values = values_of(metadata)
        return tuple([str(values.get(name, "")) for name in names])

    return _remembering(read, metric.made_of) if metric.made_of else read


def _remembering(
    read: Callable[[Mapping[str, Any]], Tags], made_of: tuple[str, ...]
) -> Callable[[Mapping[str, Any]], Tags]:
    values_of, known = itemgetter(*made_of), dict[Any, Tags]()

    def recall(metadata: Mapping[str, Any]) -> Tags:
        values = values_of(metadata)
        tags = known.get(values)
        if tags is None:
            if len(known) >= MAX_SERIES:
                known.clear()
            tags = known[values] = read(metadata)
        return tags

    return recall


class Store:
    """Aggregates `metrics`. `series[metric name]` maps tag values to a number or a `Histogram`."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self.metrics = tuple(metrics)
        self.series: dict[str, dict[Tags, Any]] = {metric.name: {} for metric in self.metrics}
        self._handler = f"telemetry_metrics-{next(_ids)}"
        self._of: dict[Event, list[tuple[Metric, dict[Tags, Any]]]] = {}
        for metric in self.metrics:
            self._of.setdefault(metric.event, []).append((metric, self.series[metric.name]))

    def begin(self, name: str, tags: Tags) -> None:
        """Creates the series of a counter or sum at 0, since a rate misses the first event of a series that starts at 1."""
        series = self.series[name]
        if len(series) < MAX_SERIES:
            series.setdefault(tags, 0)

    def attach(self) -> Store:
        """Starts aggregating."""
        for event, metrics in self._of.items():
            telemetry.attach(self._handler, event, _handler(metrics))
        return self

    def detach(self) -> None:
        """Stops aggregating; the values are kept."""
        telemetry.detach(self._handler)

    def total(self, name: str, where: Callable[[Tags], bool] | None = None) -> float:
        """The total over all series: of a distribution the number of observations."""
        return sum(
            value.count if isinstance(value, Histogram) else value
            for tags, value in self.series[name].items()
            if where is None or where(tags)
        )

    def histogram(self, name: str) -> list[int]:
        """The sums of the buckets over all series of a distribution."""
        tables = [value.buckets for value in self.series[name].values()]
        return [sum(column) for column in zip(*tables, strict=True)]

"""How a metric is declared once and stored as plain numbers.

    class BankMetrics(Group):
        transfers: int = counter("bank_transfers_total", "Transfers executed.")
        errors: dict[str, int] = counter("bank_errors_total", "Refused operations.", op=OPS)

On the class, `transfers` is the `Family` (name, type, help, labels). On an instance it is the number itself, so that
hot paths write `metrics.transfers += 1`, `metrics.errors["deposit"] += 1`, `metrics.duration.observe(0.003)`. A family
with several labels has tuples as keys, in the order of declaration. `Collector` shows the numbers to prometheus_client.
Every combination of label values is there from the start. [conventions CV-05]
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, ClassVar, Final

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

Values = tuple[str, ...]


class Source(msgspec.Struct, frozen=True):
    """Label values that are known only when the node starts, by name."""

    name: str
    meaning: str


PEERS: Final = Source("peers", "ids of the other nodes")
ENGINE: Final = Source("engine", "multipaxos, epaxos or primary-backup")
APP: Final = Source("app", "the application: bank")
OPS: Final = Source("ops", "the application's operations, and unknown")
MESSAGES: Final = Source("messages", "message types of the engine and of state transfer")


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What the sources stand for on this node."""

    peers: Values = ()
    engine: str = ""
    app: str = ""
    ops: Values = ()
    messages: Values = ()


class Counts(dict[Any, int]):
    """Numbers by label value. A value that was not declared starts at 0 too: a metric must never stop the node."""

    __slots__ = ()

    def __missing__(self, key: object) -> int:
        return 0


class Histogram:
    """How many observations fell below each bound, and their sum. A plain list: 0.2 us an observation."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        """Ascending upper bounds, inclusive; the last bucket (+Inf) has none."""
        self.counts = [0] * (len(self.bounds) + 1)
        """Observations of each bucket alone, not accumulated."""
        self.sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Add `count` observations of `value` (seconds, if the name says so). Times below 0 count as 0."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    def accumulated(self) -> list[tuple[str, float]]:
        """(bound as text, observations at or below it), as Prometheus wants them."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip([*map(repr, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of one metric."""

    name: str
    type: str
    """counter, gauge, histogram, or info: a gauge that is 1 and tells its labels."""
    help: str
    labels: dict[str, Values | Source] = {}
    bounds: tuple[float, ...] = ()
    attribute: str = ""

    def storage(self, labels: Labels) -> Any:
        """The numbers of this family: 0, a dictionary of zeros, a histogram or a dictionary of histograms."""
        make: Callable[[], Any] = int if self.type != "histogram" else lambda: Histogram(self.bounds)
        if self.type == "info":
            return {}
        if not self.variable:
            return make()
        keys = [self._values(label, labels) for label in self.variable]
        combinations: Iterable[Any] = keys[0] if len(keys) == 1 else product(*keys)
        zeros = {key: make() for key in combinations}
        return zeros if self.type == "histogram" else Counts(zeros)

    @property
    def variable(self) -> list[str]:
        """Labels that are part of the key. The others have one value on a node, e.g. `app`."""
        return [name for name, values in self.labels.items() if values not in (ENGINE, APP)]

    def metric(self, stored: Any, labels: Labels) -> Metric:
        """The numbers as prometheus_client wants them."""
        if self.type == "info":
            info = GaugeMetricFamily(self.name, self.help, labels=list(stored))
            info.add_metric(list(stored.values()), 1)
            return info
        kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
        metric: Any = kinds[self.type](self.name, self.help, labels=list(self.labels))
        variable = self.variable
        rows = stored.items() if variable else [((), stored)]
        for key, value in rows:
            keys = iter(key if len(variable) != 1 else (key,))
            row = [
                labels.engine if values == ENGINE else labels.app if values == APP else next(keys)
                for values in self.labels.values()
            ]
            if isinstance(value, Histogram):
                metric.add_metric(row, value.accumulated(), value.sum)
            else:
                metric.add_metric(row, value)
        assert isinstance(metric, Metric)
        return metric

    def _values(self, label: str, labels: Labels) -> Values:
        values = self.labels[label]
        return getattr(labels, values.name) if isinstance(values, Source) else values


# The four functions are typed Any because the type on instances stands at the declaration: an int (or float, or
# Histogram) without labels, a dict[str, int] with one, a dict[tuple[str, …], int] with several. Labels that have one
# value on a node (ENGINE, APP) are no part of the key.


def counter(name: str, help: str, **labels: Values | Source) -> Any:
    """Numbers that only grow."""
    return Family(name=name, type="counter", help=help, labels=dict(labels))


def gauge(name: str, help: str, **labels: Values | Source) -> Any:
    """Numbers that go up and down."""
    return Family(name=name, type="gauge", help=help, labels=dict(labels))


def histogram(name: str, help: str, bounds: tuple[float, ...], **labels: Values | Source) -> Any:
    """Distributions over buckets with these upper bounds."""
    return Family(name=name, type="histogram", help=help, bounds=bounds, labels=dict(labels))


def info(name: str, help: str, *labels: str) -> Any:
    """A gauge that is 1; its labels say what does not change. Stored as a dictionary, filled at start."""
    return Family(name=name, type="info", help=help, labels=dict.fromkeys(labels, ()))


class Group:
    """Families that one part of the node contributes. Subclasses declare them, see the top of this file."""

    declared: ClassVar[tuple[Family, ...]] = ()
    """The families of this class and its bases, in the order of the source."""

    def __init_subclass__(cls) -> None:
        cls.declared = tuple(
            msgspec.structs.replace(value, attribute=attribute)
            for kind in cls.__mro__
            for attribute, value in vars(kind).items()
            if isinstance(value, Family)
        )

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        for family in self.declared:
            setattr(self, family.attribute, family.storage(labels))

    def collect(self) -> Iterator[Metric]:
        """The numbers of all families."""
        for family in self.declared:
            yield family.metric(getattr(self, family.attribute), self.labels)


class Collector:
    """Shows groups to a prometheus_client registry. Called on the reactor's thread only."""

    def __init__(self, *groups: Group) -> None:
        self.groups = list(groups)
        self.before: list[Callable[[], None]] = []
        """Called before each scrape, to set gauges that are cheaper to ask for than to keep."""

    def collect(self) -> Iterator[Metric]:
        """All families of all groups."""
        for refresh in self.before:
            refresh()
        for group in self.groups:
            yield from group.collect()

    def describe(self) -> Iterator[Metric]:
        """The families without numbers, so that a registry can see two of the same name."""
        for group in self.groups:
            for family in group.declared:
                yield Metric(family.name.removesuffix("_total"), family.help, family.type.replace("info", "gauge"))


def spell_labels(labels: Mapping[str, Values | Source]) -> str:
    """Labels and their values for the documentation."""
    parts = []
    for name, values in labels.items():
        meaning = values.meaning if isinstance(values, Source) else ", ".join(values)
        parts.append(f"`{name}`" + (f" ({meaning})" if meaning else ""))
    return "; ".join(parts) or "none"

"""Write samples in Prometheus' text format. Imported when /metrics is first asked for, and not before."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mooring.kit.counters import BUCKETS_MS
from mooring.metrics.queues import FAMILIES as QUEUES
from mooring.metrics.samples import COUNTERS, GAUGES, TIMING, TIMING_HELP, TIMING_SUM, Samples


class _Gathered(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def expose(counters: Samples, gauges: Samples, accept: str) -> tuple[bytes, str]:
    """The text, and its content type by what the scraper accepts."""
    families: list[Metric] = []
    for name, (help, labels) in COUNTERS.items():
        counter = CounterMetricFamily(name, help, labels=labels)
        for label, value in sorted(counters.get(name, {}).items()):
            counter.add_metric(_values(label, labels), value)
        families.append(counter)
    for name, (help, labels) in {**GAUGES, **QUEUES}.items():
        gauge = GaugeMetricFamily(name, help, labels=labels)
        for label, value in sorted(gauges.get(name, {}).items()):
            gauge.add_metric(_values(label, labels), value)
        families.append(gauge)
    families.append(_timing(counters))
    registry = CollectorRegistry()
    registry.register(_Gathered(families))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _values(label: str, names: tuple[str, ...]) -> list[str]:
    return label.split("|") if names else []


def _timing(counters: Samples) -> Metric:
    family = HistogramMetricFamily(TIMING, TIMING_HELP, labels=("connector", "part"))
    samples = counters.get(TIMING, {})
    for label, spent in sorted(counters.get(TIMING_SUM, {}).items()):
        buckets = []
        seen = 0.0
        for bound in (*BUCKETS_MS, float("inf")):
            seen += samples.get(f"{label}|{bound}", 0)
            buckets.append(("+Inf" if bound == float("inf") else f"{bound / 1000:g}", seen))
        family.add_metric(label.split("|"), buckets, spent)
    return family

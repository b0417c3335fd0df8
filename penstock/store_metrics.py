"""The figures of an event store as Prometheus metrics, for any process that holds one."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock_schemas.metric_defs import (
    STORE_APPENDED,
    STORE_CALL_SECONDS,
    STORE_CALLS,
    STORE_CIRCUIT,
    STORE_CIRCUIT_OPENED,
    STORE_DUPLICATES,
    STORE_ERRORS,
    STORE_EVENTS,
    STORE_LAST_SEQUENCE,
    STORE_STORAGE_BYTES,
    Kind,
)
from penstock_schemas.metric_defs import Metric as Definition
from penstock_store.breaker import CircuitState
from penstock_store.store_contract import UNKNOWN, StoreMetrics

__all__ = ["StoreCollector"]


class StoreCollector(Collector):
    """Register it, and hand it `await store.get_metrics()` now and then: a scrape asks no server.

    Until the first figures there are no series.
    """

    def __init__(self) -> None:
        self._latest: StoreMetrics | None = None

    def update(self, figures: StoreMetrics) -> None:
        """What the next scrapes show. Any thread."""
        self._latest = figures

    def collect(self) -> Iterator[Metric]:
        """Called by the registry, on its own thread."""
        figures = self._latest
        if figures is None:
            return
        backend = figures.backend
        for definition, value in (
            (STORE_APPENDED, figures.appended),
            (STORE_DUPLICATES, figures.duplicates),
            (STORE_ERRORS, figures.errors),
            (STORE_EVENTS, figures.events),
            (STORE_STORAGE_BYTES, figures.storage_bytes),
            (STORE_LAST_SEQUENCE, figures.last_sequence),
        ):
            if value != UNKNOWN:
                yield _family(definition, [((backend,), value)])
        latencies = {"append": figures.append_latency, "query": figures.query_latency}
        yield _family(STORE_CALLS, [((backend, name), one.count) for name, one in latencies.items()])
        yield _family(
            STORE_CALL_SECONDS,
            [
                ((backend, name, quantile), value)
                for name, one in latencies.items()
                for quantile, value in (
                    ("0.5", one.p50_seconds),
                    ("0.95", one.p95_seconds),
                    ("0.99", one.p99_seconds),
                )
            ],
        )
        if figures.circuit is not None:
            states = [((backend, state.value), float(state is figures.circuit)) for state in CircuitState]
            yield _family(STORE_CIRCUIT, states)
            yield _family(STORE_CIRCUIT_OPENED, [((backend,), figures.circuit_opened)])


def _family(definition: Definition, samples: Sequence[tuple[tuple[str, ...], float]]) -> Metric:
    family: CounterMetricFamily | GaugeMetricFamily
    if definition.kind is Kind.COUNTER:
        name = definition.name.removesuffix("_total")
        family = CounterMetricFamily(name, definition.help, labels=definition.labels)
    else:
        family = GaugeMetricFamily(definition.name, definition.help, labels=definition.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family

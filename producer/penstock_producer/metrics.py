"""A producer's counts as Prometheus metrics. Needs the extra `metrics`; nothing else here imports this
module.

`REGISTRY.register(ProducerCollector(producer))` is all. Counts are read when they are scraped: emitting costs
nothing more.
"""

import weakref
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock_producer.producer import Producer
from penstock_schemas import metric_defs

__all__ = ["ProducerCollector"]


class ProducerCollector(Collector):
    """Shows one producer, labelled with its default topic; nothing any more once the producer is gone."""

    def __init__(self, producer: Producer) -> None:
        self._producer = weakref.ref(producer)
        self._topic = producer.settings.topic

    def collect(self) -> Iterator[Metric]:
        """The metrics, by their names in `penstock_schemas.metric_defs`."""
        producer = self._producer()
        if producer is None:
            return
        stats = producer.stats
        emitted = _counter(metric_defs.PRODUCER_EMITTED)
        emitted.add_metric([self._topic], stats.emitted)
        delivered = _counter(metric_defs.PRODUCER_DELIVERED)
        delivered.add_metric([self._topic], stats.delivered)
        failed = _counter(metric_defs.PRODUCER_FAILED)
        for name, count in stats.failed.items():
            failed.add_metric([self._topic, name], count)
        buffered = metric_defs.PRODUCER_BUFFERED
        yield from (emitted, delivered, failed)
        yield GaugeMetricFamily(buffered.name, buffered.help, value=stats.buffered)


def _counter(metric: metric_defs.Metric) -> CounterMetricFamily:
    # The library adds _total by itself.
    return CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)

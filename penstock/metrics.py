"""Prometheus objects for the definitions in `penstock_schemas.metric_defs`: names are written there only."""

from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from penstock_schemas.metric_defs import BUILD_INFO, Metric

__all__ = ["counter", "gauge", "histogram", "process_registry"]


def counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    """A counter; the client library adds `_total` itself."""
    return Counter(metric.name.removesuffix("_total"), metric.help, metric.labels, registry=registry)


def gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    """A gauge."""
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)


def histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    """A histogram with the definition's buckets; +Inf is added."""
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


def process_registry(component: str) -> CollectorRegistry:
    """A registry of its own for one process: what it is, and its CPU, memory and open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    info = Gauge(BUILD_INFO.name, BUILD_INFO.help, BUILD_INFO.labels, registry=registry)
    info.labels(version=version("penstock"), component=component).set(1)
    return registry

"""A store's figures as Prometheus series, by the names that are defined."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest

from penstock.store_metrics import StoreCollector
from penstock_schemas import Event
from penstock_schemas.metric_defs import STORE
from penstock_store.backends import create_event_store
from penstock_store.breaker import CircuitState
from penstock_store.store_contract import UNKNOWN


async def test_the_figures_are_series_under_the_defined_names() -> None:
    registry, collector = CollectorRegistry(), StoreCollector()
    registry.register(collector)
    assert generate_latest(registry) == b""
    store = create_event_store("memory")
    event = Event(event_type="a", entity_id="e")
    await store.append_batch([event, event])
    await store.get_event(event.event_id)
    figures = replace(await store.get_metrics(), circuit=CircuitState.OPEN, circuit_opened=3)
    collector.update(figures)
    lines = generate_latest(registry).decode().splitlines()
    assert 'penstock_store_appended_total{backend="memory"} 1.0' in lines
    assert 'penstock_store_duplicates_total{backend="memory"} 1.0' in lines
    assert 'penstock_store_calls_total{backend="memory",operation="query"} 1.0' in lines
    assert 'penstock_store_circuit{backend="memory",state="open"} 1.0' in lines
    assert 'penstock_store_circuit{backend="memory",state="closed"} 0.0' in lines
    assert 'penstock_store_circuit_opened_total{backend="memory"} 3.0' in lines
    median = figures.query_latency.p50_seconds
    assert (
        registry.get_sample_value(
            "penstock_store_call_seconds", {"backend": "memory", "operation": "query", "quantile": "0.5"}
        )
        == median
    )
    assert {line.split()[2] for line in lines if line.startswith("# HELP")} == {one.name for one in STORE}


async def test_what_a_backend_does_not_tell_has_no_series() -> None:
    registry, collector = CollectorRegistry(), StoreCollector()
    registry.register(collector)
    figures = await create_event_store("memory").get_metrics()
    collector.update(replace(figures, events=UNKNOWN, storage_bytes=UNKNOWN))
    text = generate_latest(registry).decode()
    assert "penstock_store_events" not in text
    assert "penstock_store_circuit" not in text

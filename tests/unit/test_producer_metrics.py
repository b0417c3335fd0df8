"""The producer's metrics carry the names of the one list, and its counts."""

import gc

from prometheus_client import CollectorRegistry, generate_latest

from penstock_producer.metrics import ProducerCollector
from penstock_producer.testing import InMemoryProducer
from penstock_schemas import Event, metric_defs

EVENT = Event(event_type="t", entity_id="e")


def test_counts_are_shown_under_the_listed_names() -> None:
    registry = CollectorRegistry()
    with InMemoryProducer(topic="orders") as producer:
        registry.register(ProducerCollector(producer))
        producer.fail()
        assert producer.emit(EVENT).exception(0) is not None
        producer.emit(EVENT)
        producer.hold()
        producer.emit(EVENT)
        text = generate_latest(registry).decode()
        producer.release()
    assert f'{metric_defs.PRODUCER_EMITTED.name}{{topic="orders"}} 3.0' in text
    assert f'{metric_defs.PRODUCER_DELIVERED.name}{{topic="orders"}} 1.0' in text
    assert f'{metric_defs.PRODUCER_FAILED.name}{{code="_MSG_TIMED_OUT",topic="orders"}} 1.0' in text
    assert f"{metric_defs.PRODUCER_BUFFERED.name} 1.0" in text


def test_a_collector_keeps_no_producer_alive() -> None:
    collector = ProducerCollector(InMemoryProducer())
    gc.collect()
    assert list(collector.collect()) == []

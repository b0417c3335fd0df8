"""A fatal error of the Kafka client: said by the producer's own errors, and nothing hangs. No broker."""

import threading

import pytest

from fixtures.librdkafka import fail_for_good
from fixtures.waiting import wait_for
from penstock_producer import NotDelivered, Producer
from penstock_producer._client import KafkaClient
from penstock_producer.errors import ProducerBroken
from penstock_schemas import Event
from penstock_schemas.registry import InMemoryRegistry

EVENT = Event(event_type="order.placed", entity_id="42")


def test_a_client_that_cannot_go_on_says_so_and_is_served_to_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    producer = Producer("localhost:1", topic="orders", registry=InMemoryRegistry(), close_timeout=0.1)
    delivery = producer.emit(EVENT)
    client = producer._client
    assert isinstance(client, KafkaClient)
    fail_for_good(client._rd)
    wait_for(lambda: "cannot go on" in caplog.text, 10, "the poll thread to meet the error")
    assert any(thread is client._thread for thread in threading.enumerate()), "who else serves deliveries?"
    with pytest.raises(ProducerBroken, match="make a new one"):
        producer.emit(EVENT)
    with pytest.raises(NotDelivered):
        producer.close()
    assert delivery.done()
    assert "played" in caplog.text


def test_a_flush_that_meets_the_error_goes_on_waiting_for_reports() -> None:
    producer = Producer("localhost:1", topic="orders", registry=InMemoryRegistry(), close_timeout=0.1)
    delivery = producer.emit(EVENT)
    client = producer._client
    assert isinstance(client, KafkaClient)
    client._stopping.set()  # nobody else polls
    client._thread.join()
    fail_for_good(client._rd)
    assert client.flush(10) == 0
    assert delivery.exception(0) is not None
    producer.close()  # somebody has looked

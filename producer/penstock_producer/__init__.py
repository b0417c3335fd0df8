"""Emit events to Kafka: validated, Avro-encoded, idempotent.

`Producer` is where to begin; `penstock_producer.testing.InMemoryProducer` stands in for it in tests;
`penstock_producer.errors` says what can go wrong.
"""

from penstock_producer.delivery import Delivered, Delivery
from penstock_producer.encoded import EncodedEvent
from penstock_producer.errors import (
    BufferFull,
    DeliveryFailed,
    EventTooLarge,
    InvalidSettings,
    NotDelivered,
    ProducerClosed,
    ProducerError,
)
from penstock_producer.producer import Producer
from penstock_producer.settings import ProducerSettings
from penstock_producer.stats import ProducerStats

__all__ = [
    "BufferFull",
    "Delivered",
    "Delivery",
    "DeliveryFailed",
    "EncodedEvent",
    "EventTooLarge",
    "InvalidSettings",
    "NotDelivered",
    "Producer",
    "ProducerClosed",
    "ProducerError",
    "ProducerSettings",
    "ProducerStats",
]

"""What the hot paths cost, counted instead of timed: interpreter instructions and calls into C for one event.

A guard against a regression, the same on every machine. The bounds lie a quarter above what was counted under
Python 3.11; raise one only with a measurement that says why (`make bench`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

import pytest

from penstock_consumer.batching import Lane, PendingBatch, fill
from penstock_consumer.interfaces import TopicPartition
from penstock_producer.testing import InMemoryProducer
from penstock_schemas import Event, EventPayload
from penstock_schemas.decoder import Decoder
from penstock_schemas.encoder import EventEncoder
from penstock_schemas.registry import InMemoryRegistry
from penstock_store.ingest import Claim, PartitionRef
from penstock_store.ingest.decide import Known, counts, decide
from penstock_store.ingest.rows import copy_chunk

EVENTS = 200


class OrderStep(EventPayload, event_type="order.step"):
    amount: int
    currency: str
    note: str


class StoredRecord:
    """As quick as a record can be: what is counted is ours."""

    def __init__(self, offset: int, value: bytes) -> None:
        self.offset, self.value = (offset).__int__, value.__bytes__
        self.topic, self.partition = "orders".__str__, (0).__int__
        self.leader_epoch = (0).__int__


class Cost(NamedTuple):
    instructions: float
    c_calls: float


def cost(work: Callable[[], Any]) -> Cost:
    """For one of `EVENTS`. The second run counts: caches are warm, as in a worker."""
    work()
    found = {"opcode": 0, "c_call": 0}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        found["opcode"] += event == "opcode"
        return trace

    def profile(_: FrameType, event: str, __: Any) -> None:
        found["c_call"] += event == "c_call"

    before = sys.gettrace(), sys.getprofile()
    try:
        sys.settrace(trace)
        work()
        sys.settrace(None)
        sys.setprofile(profile)
        work()
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])
    return Cost(found["opcode"] / EVENTS, found["c_call"] / EVENTS)


def generic(number: int) -> Event:
    return Event(
        event_type="order.step",
        entity_id=f"order-{number:08d}",
        correlation_id=f"order-{number:08d}",
        actor_type="user",
        actor_id=f"user-{number}",
        payload={"amount": number, "currency": "EUR", "note": f"{number:032x}"},
        metadata={"tags": ["bench"]},
    )


def typed(number: int) -> Event:
    payload = OrderStep(amount=number, currency="EUR", note=f"{number:032x}")
    return Event.of(payload, entity_id=f"order-{number:08d}", actor_type="user", actor_id="user-7")


def ingest(decoder: Decoder, records: list[Any]) -> PendingBatch:
    where = TopicPartition("orders", 0)
    claim = Claim(group_id="g", ref=PartitionRef("c", "orders", "t", 0), epoch=1, position=0)
    batch = PendingBatch(0.0)
    fill(batch, records, 0, {where: Lane(where, claim, 0, 0, 0)}, decoder, {})
    decision = decide(batch.rows, Known())
    counts(batch.rows, decision)
    copy_chunk(batch.rows.rows, decision.store, 0)
    assert len(batch.rows) == EVENTS
    return batch


@pytest.mark.parametrize(
    ("make", "bound"), [(generic, Cost(755, 24)), (typed, Cost(740, 30))], ids=["generic", "typed"]
)
def test_to_ingest_an_event(make: Callable[[int], Event], bound: Cost) -> None:
    registry, decoder = InMemoryRegistry(), Decoder()
    encoder = EventEncoder(registry)
    values = [encoder.encode(make(number), "orders") for number in range(EVENTS)]
    decoder.add_schema(1, registry.schema(1))
    records: list[Any] = [StoredRecord(offset, value) for offset, value in enumerate(values)]
    found = cost(lambda: ingest(decoder, records))
    assert found.instructions <= bound.instructions, found
    assert found.c_calls <= bound.c_calls, found


@pytest.mark.parametrize(
    ("make", "bound"), [(generic, Cost(1440, 79)), (typed, Cost(1015, 48))], ids=["generic", "typed"]
)
def test_to_make_and_encode_an_event(make: Callable[[int], Event], bound: Cost) -> None:
    encoder = EventEncoder(InMemoryRegistry())
    found = cost(lambda: [encoder.encode(make(number), "orders") for number in range(EVENTS)])
    assert found.instructions <= bound.instructions, found
    assert found.c_calls <= bound.c_calls, found


@pytest.mark.parametrize(
    ("make", "bound"), [(generic, Cost(630, 39)), (typed, Cost(450, 29))], ids=["generic", "typed"]
)
def test_to_encode_an_event_at_hand(make: Callable[[int], Event], bound: Cost) -> None:
    events = [make(number) for number in range(EVENTS)]
    with InMemoryProducer() as producer:
        found = cost(lambda: [producer.encode(event) for event in events])
    assert found.instructions <= bound.instructions, found
    assert found.c_calls <= bound.c_calls, found

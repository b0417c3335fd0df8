"""Records that are bad, come again, or cannot be read just now."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from chaos.load import events
from chaos.rig import DEADLINE, Rig
from chaos.scenarios.scenario import Scenario
from penstock_schemas.encoder import EventEncoder
from penstock_schemas.errors import DecodeReason
from penstock_schemas.registry import SchemaRegistry

__all__ = ["SCENARIOS"]

_ROUND, _BAD = 800, 8  # one in a hundred
_NOWHERE = (2**31 - 1).to_bytes(4, "big")

_CORRUPTIONS: dict[DecodeReason, Callable[[bytes], bytes]] = {
    DecodeReason.TOO_SHORT: lambda value: value[:3],
    DecodeReason.WRONG_MAGIC: lambda value: b"\x07" + value[1:],
    DecodeReason.UNKNOWN_SCHEMA: lambda value: value[:1] + _NOWHERE + value[5:],
    DecodeReason.TRUNCATED: lambda value: value[:30],
    DecodeReason.TRAILING_BYTES: lambda value: value + b"\0",
    DecodeReason.INVALID_UTF8: lambda value: value.replace(b"entity-", b"\xff\xfetity-"),
    DecodeReason.NUL: lambda value: value.replace(b"entity-", b"ent\0ty-"),
    DecodeReason.INVALID_JSON: lambda value: value.replace(b'{"number"', b'!"number"'),
}


async def _poison(rig: Rig, cycles: int) -> None:
    """One in a hundred records is corrupt, in eight ways; each is a dead letter with its own cause."""
    rig.start(batch=5000)
    schemas = SchemaRegistry(rig.registry)
    raw = Producer({"bootstrap.servers": rig.site.kafka, "enable.idempotence": True})
    encode, victims, wanted = EventEncoder(schemas).encode, events(seed=2), dict[tuple[int, int], str]()
    try:
        for _ in range(cycles * rig.site.events // _ROUND):
            await rig.emit(_ROUND - _BAD)
            for reason, corrupt in _CORRUPTIONS.items():
                value = corrupt(encode(next(victims), rig.topic))
                message = await asyncio.to_thread(_produce, raw, rig.topic, value)
                place = message.topic() or "", message.partition() or 0, message.offset() or 0
                rig.oracle.note(*place)
                rig.oracle.bad[place] = value
                wanted[place[1:]] = reason
    finally:
        schemas.close()
    await rig.settle()
    found, altered = await asyncio.to_thread(_dead_letters, rig)
    rig.notes |= {"bad": len(wanted), "dead_lettered": len(found), "reasons": Counter(found.values())}
    if found != wanted:
        wrong = [(place, wanted.get(place), found.get(place)) for place in wanted.keys() | found.keys()]
        rig.faults.append(f"dead letters differ: {[one for one in wrong if one[1] != one[2]][:5]}")
    if altered:
        rig.faults.append(f"{altered} dead letters are not the bytes of their records")


def _produce(producer: Producer, topic: str, value: bytes) -> Message:
    answers: list[Message] = []
    producer.produce(topic, value=value, on_delivery=lambda error, message: answers.append(message))
    assert producer.flush(DEADLINE) == 0
    assert answers[0].error() is None, answers[0].error()
    return answers[0]


def _dead_letters(rig: Rig) -> tuple[dict[tuple[int, int], str], int]:
    """Reasons by the coordinates of the records, and how many values are not the records'."""
    topic = f"{rig.topic}.dlq"
    reader = Consumer(
        {"bootstrap.servers": rig.site.kafka, "group.id": "unused", "enable.auto.commit": False}
    )
    found, altered = dict[tuple[int, int], str](), 0
    try:
        _, end = reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
        reader.assign([TopicPartition(topic, 0, 0)])
        read, deadline = 0, time.monotonic() + DEADLINE
        while read < end:
            assert time.monotonic() < deadline, f"read {read} of {end} dead letters"
            for message in reader.consume(1000, 1.0):
                read = (message.offset() or 0) + 1
                headers = dict(message.headers() or ())
                place = tuple(
                    int(headers[f"__connect.errors.{name}"] or 0) for name in ("partition", "offset")
                )
                found[place[0], place[1]] = (headers["penstock.dead_letter.reason"] or b"").decode()
                altered += message.value() != rig.oracle.bad.get((rig.topic, place[0], place[1]))
    finally:
        reader.close()
    return found, altered


async def _registry_down(rig: Rig, cycles: int) -> None:
    """A worker that does not know the schema yet; the registry is out of reach for `outage` seconds."""
    for cycle in range(cycles):
        await rig.emit(500)
        (rig.registry_link.blackhole if cycle % 2 else rig.registry_link.cut)()
        worker = rig.start(registry=f"http://127.0.0.1:{rig.registry_link.port}")
        before = await rig.fetchval("SELECT count(*) FROM penstock.events")
        began = time.monotonic()
        await rig.until(lambda log=worker.log: '"retrying"' in log.read_text(), "the registry to be missed")
        while time.monotonic() < began + rig.site.outage:
            await asyncio.sleep(0.2)  # the outage's length is the case itself
            assert worker.running, worker.tail()
        if await rig.fetchval("SELECT count(*) FROM penstock.events") != before:
            rig.faults.append("something was stored without its schema: the outage was none")
        rig.registry_link.heal()
        await rig.recovered(time.time())
        await rig.settle()
        await rig.end(worker)
    rig.notes |= {
        "outage_s": rig.site.outage,
        "dead_lettered": await rig.fetchval("SELECT sum(dead_lettered)::bigint FROM penstock.ingested"),
    }


async def _rolling(rig: Rig, cycles: int) -> None:
    """The same keys again and again while partitions of two seconds follow each other."""
    await rig.fetchval("UPDATE penstock.settings SET partition_interval = '2 seconds' RETURNING 1")
    rig.start()
    repeated = [event for event, _ in zip(events(seed=3), range(500), strict=False)]

    async def over() -> bool:
        return bool(
            await rig.fetchval(
                "SELECT upper < clock_timestamp() FROM penstock.partitions WHERE state = 'current'"
            )
        )

    for _ in range(cycles):
        await asyncio.to_thread(rig.oracle.emit, rig.producer, repeated, DEADLINE)
        await rig.emit(500)
        await rig.settle()
        await rig.until(over, "the end of the current partition's time")
    rig.notes["partitions"] = await rig.fetchval("SELECT count(DISTINCT tableoid) FROM penstock.events")
    # a batch that finds its partition over goes into it still, and the next one rolls
    if rig.notes["partitions"] < cycles - 1:
        rig.faults.append(f"only {rig.notes['partitions']} partitions were used")


SCENARIOS = (
    Scenario(
        name="poison",
        about="one in a hundred records corrupt, in eight ways: each dead-lettered with its cause",
        cycles=1,
        attack=_poison,
    ),
    Scenario(
        name="registry-down",
        about="the schema registry out of reach: nothing dead-lettered",
        cycles=2,
        attack=_registry_down,
    ),
    Scenario(
        name="rolling-partitions",
        about="keys repeated across partitions of two seconds",
        cycles=4,
        attack=_rolling,
    ),
)

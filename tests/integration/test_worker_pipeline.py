"""The worker on real Kafka and PostgreSQL: what goes in comes out, once, in order, accounted for."""

import os
import struct
from collections import defaultdict

import pytest

from fixtures.consuming import SMALL, PipelineFactory, event
from fixtures.librdkafka import produce_unreadable
from fixtures.waiting import wait_for_async
from penstock_consumer import BatchLimits
from penstock_consumer.errors import SinkFailed
from penstock_schemas.errors import RegistryUnavailable
from penstock_schemas.registry import AsyncSchemaSource

HEADERS = (
    "topic",
    "partition",
    "offset",
    "connector.name",
    "stage",
    "exception.class.name",
    "exception.message",
)


def by_entity(keys: list[str]) -> dict[int, list[int]]:
    found = defaultdict(list)
    for key in keys:
        found[int(key[1:]) % 7].append(int(key[1:]))
    return found


async def test_records_are_stored_once_in_order_and_accounted_for(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(3)
    pipeline.produce(pipeline.values(3000))
    worker = pipeline.start(batch=SMALL)
    await pipeline.ingested(3000)
    await worker.stop()
    keys = await pipeline.keys()
    assert sorted(keys) == sorted(f"k{n}" for n in range(3000))
    assert all(numbers == sorted(numbers) for numbers in by_entity(keys).values())
    assert (await pipeline.books())["stored"] == 3000
    assert worker.metric("penstock_worker_events_total", topic=pipeline.topic, outcome="stored") == 3000
    ranges = await pipeline.rows("SELECT first_offset, next_offset FROM penstock.ingested")
    assert sum(row["next_offset"] - row["first_offset"] for row in ranges) == 3000


async def test_duplicates_in_and_among_batches_are_stored_once(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(2)
    values = pipeline.values(600)
    pipeline.produce([value for value in values for _ in range(2)])
    worker = pipeline.start(batch=SMALL)
    await pipeline.ingested(1200)
    pipeline.produce(values)
    await pipeline.ingested(1800)
    await worker.stop()
    keys = await pipeline.keys()
    assert len(keys) == len(set(keys)) == 600
    assert (await pipeline.books()) == {
        "stored": 600, "duplicate": 1200, "conflict": 0, "dead_lettered": 0, "tombstone": 0, "lost": 0,
    }  # fmt: skip


async def test_a_restart_goes_on_where_postgresql_stands_whatever_kafka_was_told(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(100))
    worker = pipeline.start()
    await pipeline.ingested(100)
    await worker.stop()
    pipeline.produce(pipeline.values(50, start=100))
    pipeline.group_offsets_to_the_end()  # as an operator who believes in Kafka's offsets would
    worker = pipeline.start()
    await pipeline.ingested(150)
    await worker.stop()
    assert await pipeline.keys() == [f"k{n}" for n in range(150)]
    assert (await pipeline.books())["duplicate"] == 0


async def test_each_kind_of_bad_record_goes_alone_with_its_cause(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    good = [value for _, value in pipeline.values(9)]
    schema_id = good[0][:5]  # type: ignore[index]
    bad: dict[str, bytes] = {
        "truncated": good[0][:40],  # type: ignore[index]
        "unknown_schema": b"\0" + struct.pack(">I", 999_999) + good[0][5:],  # type: ignore[index]
        "wrong_magic": b"\x07" + good[0][1:],  # type: ignore[index]
        "invalid_utf8": _patched(good[0], b"order.placed", b"order.\xff\xfeaced"),
        "nul": _patched(good[0], b"order.placed", b"order\0placed"),
        "too_short": b"",
    }
    records: list[tuple[str | None, bytes | None]] = []
    for n, value in enumerate(bad.values()):
        records += [("e0", good[n]), ("e0", value)]
    records += [("e0", good[6]), ("e0", None), ("e0", good[7]), ("e0", schema_id), ("e0", good[8])]
    pipeline.produce(records)
    worker = pipeline.start()
    await pipeline.ingested(len(records))
    await worker.stop()
    assert await pipeline.keys() == [f"k{n}" for n in range(9)]
    books = await pipeline.books()
    assert (books["dead_lettered"], books["tombstone"], books["stored"]) == (7, 1, 9)
    letters = pipeline.dead_letters(7)
    assert len(letters) == 7
    for letter, (reason, value) in zip(letters, [*bad.items(), ("truncated", schema_id)], strict=True):
        headers = {name: content.decode() for name, content in letter.headers()}
        assert letter.key() == b"e0"
        assert (letter.value() or b"") == value
        assert headers["penstock.dead_letter.reason"] == reason
        assert headers["__connect.errors.topic"] == pipeline.topic
        assert headers["__connect.errors.stage"] == "VALUE_CONVERTER"
        assert all(headers[f"__connect.errors.{name}"] for name in HEADERS)
        offset = int(headers["__connect.errors.offset"])
        assert records[offset][1] == value


def _patched(value: bytes | None, old: bytes, new: bytes) -> bytes:
    assert value is not None
    assert old in value
    assert len(old) == len(new)
    return value.replace(old, new)


@pytest.mark.parametrize("policy", ["dead_letter", "report"])
async def test_a_key_with_other_content_is_a_conflict(make_pipeline: PipelineFactory, policy: str) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce([("e0", pipeline.encode(event(0)))])
    worker = pipeline.start(conflicts=policy)
    await pipeline.ingested(1)
    other = pipeline.encode(event(0, payload={"n": "another"}))
    pipeline.produce([("e0", other), ("e0", pipeline.encode(event(1)))])
    await pipeline.ingested(3)
    await worker.stop()
    assert await pipeline.keys() == ["k0", "k1"]
    assert (await pipeline.books())["conflict"] == 1
    assert worker.metric("penstock_worker_conflicts_total", topic=pipeline.topic) == 1
    letters = pipeline.dead_letters(1 if policy == "dead_letter" else 0)
    assert [letter.value() for letter in letters] == ([other] if policy == "dead_letter" else [])


async def test_a_registry_that_is_away_costs_no_record(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce(pipeline.values(20))

    class Away:
        """503 until told otherwise."""

        def __init__(self) -> None:
            self.asked = 0
            self.back = False

        async def schema(self, schema_id: int) -> str:
            self.asked += 1
            if not self.back:
                raise RegistryUnavailable("503")
            return await AsyncSchemaSource(pipeline.schemas).schema(schema_id)

    away = Away()
    worker = pipeline.start(schemas=away, pause_after=0.2)
    await wait_for_async(lambda: away.asked >= 4, 30, "the registry to be asked again")
    assert worker.health.ready() == "the schema registry does not answer"
    away.back = True
    await pipeline.ingested(20)
    await worker.stop()
    assert await pipeline.keys() == [f"k{n}" for n in range(20)]
    assert pipeline.dead_letters(0) == []


async def test_a_missing_table_stops_the_worker_with_advice(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce([*pipeline.values(3), ("e0", b"bad")])
    await pipeline.rows("ALTER TABLE penstock.offsets RENAME TO offsets_gone")
    worker = pipeline.start()
    error = await worker.failed()
    assert isinstance(error, SinkFailed)
    assert "penstock migrate" in str(error)
    assert pipeline.dead_letters(0) == []


async def test_a_record_near_the_limit_goes_whole_into_the_larger_dead_letter_topic(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1, config={"max.message.bytes": "200000"})
    pipeline.produce([("e0", b"\x09" * 199_500), *pipeline.values(1)])
    worker = pipeline.start()
    await pipeline.ingested(2)
    await worker.stop()
    (letter,) = pipeline.dead_letters(1)
    assert letter.value() == b"\x09" * 199_500


async def test_a_record_beyond_the_dead_letter_topics_limit_goes_as_a_reference(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {"max.message.bytes": "10000"})
    pipeline.produce([("e0", b"\x09" + os.urandom(50_000)), ("e1", b"\x09small"), *pipeline.values(1)])
    worker = pipeline.start()
    await pipeline.ingested(3)
    await worker.stop()
    letters = {letter.key(): letter for letter in pipeline.dead_letters(2)}
    assert letters[b"e1"].value() == b"\x09small"
    assert b'"offset": 0' in letters[b"e0"].value()
    assert ("penstock.dead_letter.reference", b"true") in letters[b"e0"].headers()


async def test_a_quiet_record_waits_for_no_company(make_pipeline: PipelineFactory) -> None:
    """Neither for a full batch nor for its age: each would come after the deadline of `ingested`."""
    pipeline = make_pipeline(1)
    worker = pipeline.start(batch=BatchLimits(age=3_600))
    for n in range(5):
        pipeline.produce(pipeline.values(1, start=n))
        await pipeline.ingested(n + 1)
    await worker.stop()
    assert worker.metric("penstock_worker_batches_total") == 5


async def test_a_header_name_that_is_not_utf8_stops_nobody(make_pipeline: PipelineFactory) -> None:
    """So many, since Python checks less in calls that it has specialised, and confluent-kafka errs here."""
    pipeline = make_pipeline(1, config={"max.message.bytes": "200000"})
    pipeline.make_topic(f"{pipeline.topic}.dlq", {"max.message.bytes": "10000"})
    (_, good), *_ = pipeline.values(1)
    assert good is not None
    many, large = [b"\x09small%d" % n for n in range(100)], b"\x09" + os.urandom(50_000)
    produce_unreadable(pipeline.kafka, pipeline.topic, [*many, large, good])
    worker = pipeline.start()
    await pipeline.ingested(102)
    await worker.stop()
    assert await pipeline.keys() == ["k0"]
    letters = {letter.value(): dict(letter.headers()) for letter in pipeline.dead_letters(101)}
    for value in many:
        headers = letters.pop(value)
        assert headers["penstock.dead_letter.headers"] == b"unreadable"
        assert headers["penstock.dead_letter.reason"] == b"wrong_magic"
    assert [one["penstock.dead_letter.reference"] for one in letters.values()] == [b"true"]

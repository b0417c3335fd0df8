"""Dead letters on real Kafka and PostgreSQL: seen, sent back, put aside, each once whatever happens."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from fixtures.consuming import Pipeline, PipelineFactory
from fixtures.librdkafka import fail_for_good, produce_unreadable
from penstock_consumer.bounded import read, watermarks
from penstock_consumer.dead_letters import PREFIX, TIMESTAMP, KafkaDeadLetters
from penstock_consumer.dlq import (
    ATTEMPTS,
    MARK,
    DeadLetterQueue,
    Letter,
    Selection,
    State,
    discard,
    redrive,
)
from penstock_consumer.dlq.actions import CAPPED, GONE
from penstock_consumer.errors import (
    DeadLettersUnavailable,
    RedriveInterrupted,
    SourceUnavailable,
    TopicMismatch,
)
from penstock_consumer.interfaces import DeadLetter
from penstock_schemas.errors import UnknownSchemaId
from penstock_schemas.registry import AsyncSchemaSource

ALL = Selection()
BAD = b"\x09no event"


class LateRegistry:
    """Knows no schema until `late` is False: as when a producer's schema is registered afterwards."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._source = AsyncSchemaSource(pipeline.schemas)
        self.late = True

    async def schema(self, schema_id: int) -> str:
        if self.late:
            raise UnknownSchemaId(schema_id, "the registry")
        return await self._source.schema(schema_id)


def queue_of(pipeline: Pipeline) -> DeadLetterQueue:
    return DeadLetterQueue(pipeline.settings(), pipeline.topic)


def letters_of(pipeline: Pipeline, selection: Selection = ALL) -> list[Letter]:
    return list(queue_of(pipeline).letters(selection))


def records_of(pipeline: Pipeline) -> list[Any]:
    ends = watermarks(pipeline.settings(), pipeline.topic)
    assert ends is not None
    return [record for some in read(pipeline.settings(), pipeline.topic, ends) for record in some]


async def given_up(pipeline: Pipeline, reason: str = "wrong_magic") -> None:
    """Every record of the topic goes to the dead letters, as a worker sends them."""
    sink = KafkaDeadLetters(pipeline.settings())
    await sink.send(
        [
            DeadLetter(record, "VALUE_CONVERTER", reason, "no event", "DecodeError", "id of the topic")
            for record in records_of(pipeline)
        ]
    )
    await sink.close()


async def poisoned(make_pipeline: PipelineFactory, count: int = 3) -> Pipeline:
    """A pipeline whose records are dead letters, of as many entities."""
    pipeline = make_pipeline(1)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {})
    pipeline.produce([(f"e{n}", BAD + str(n).encode()) for n in range(count)])
    await given_up(pipeline)
    return pipeline


async def test_a_fatal_error_of_the_client_is_waited_out_with_another(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {})
    pipeline.produce([("e0", BAD)])
    letters = [
        DeadLetter(record, "VALUE_CONVERTER", "wrong_magic", "no event", "DecodeError", "id of the topic")
        for record in records_of(pipeline)
    ]
    sink = KafkaDeadLetters(pipeline.settings())
    await sink.send(letters)
    assert sink._producer is not None
    fail_for_good(sink._producer)
    with pytest.raises(DeadLettersUnavailable, match="did not acknowledge"):
        await sink.send(letters)
    await sink.send(letters)
    await sink.close()
    assert {letter.place.offset for letter in letters_of(pipeline)} == {0}


async def test_what_was_unknown_is_stored_once_redriven_with_everything_it_came_with(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(3)
    registry = LateRegistry(pipeline)
    values = pipeline.values(40)
    pipeline.produce(values)
    worker = pipeline.start(schemas=registry, dead_letter_share=1.0)
    await pipeline.ingested(40)
    assert await pipeline.keys() == []
    assert {letter.cause for letter in letters_of(pipeline)} == {"unknown_schema"}
    await (
        worker.stop()
    )  # a worker remembers which schemas are unknown only for a batch; start anew all the same
    registry.late = False
    worker = pipeline.start(schemas=registry)
    report = await asyncio.to_thread(redrive, queue_of(pipeline), ALL)
    assert (report.done, report.left) == (40, {})
    await pipeline.ingested(80)
    await worker.stop()
    assert sorted(await pipeline.keys()) == sorted(f"k{n}" for n in range(40))
    books = await pipeline.books()
    assert (books["stored"], books["dead_lettered"]) == (40, 40)
    records = records_of(pipeline)
    first, again = records[:], [r for r in records if any(name == ATTEMPTS for name, _ in r.headers() or ())]
    originals = {r.value(): r for r in first if not r.headers()}
    assert len(again) == 40
    for record in again:
        original = originals[record.value()]
        assert (record.key(), record.partition()) == (original.key(), original.partition())
        assert dict(record.headers())["penstock.redrive.from"] == (
            f"{pipeline.topic}:{original.partition()}@{original.offset()}".encode()
        )
        assert dict(record.headers())[ATTEMPTS] == b"1"
    for entity in range(7):  # among themselves they kept their order
        numbers = [int(key[1:]) for key in await pipeline.keys() if int(key[1:]) % 7 == entity]
        assert numbers == sorted(numbers)


async def test_a_second_redrive_sends_nothing_and_marks_say_where_to(make_pipeline: PipelineFactory) -> None:
    pipeline = await poisoned(make_pipeline)
    assert redrive(queue_of(pipeline), ALL).done == 3
    assert redrive(queue_of(pipeline), ALL).done == 0
    records = records_of(pipeline)
    assert len(records) == 6
    letters = letters_of(pipeline)
    assert {letter.state for letter in letters} == {State.REDRIVEN}
    for letter in letters:
        assert letter.mark is not None
        target = next(r for r in records if r.offset() == letter.mark.to_offset)
        assert (target.value(), target.partition()) == (letter.value, letter.mark.to_partition)


async def test_attempts_are_counted_over_its_lives_and_capped(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.produce([("e0", BAD)])
    worker = pipeline.start(dead_letter_share=1.0)
    await pipeline.ingested(1)
    for attempt in (1, 2):
        assert (await asyncio.to_thread(redrive, queue_of(pipeline), ALL, max_attempts=2)).done == 1
        await pipeline.ingested(1 + attempt)
    heard: list[tuple[int, str | None]] = []
    report = await asyncio.to_thread(
        redrive,
        queue_of(pipeline),
        ALL,
        max_attempts=2,
        tell=lambda letter, why: heard.append((letter.attempts, why)),
    )
    await worker.stop()
    assert (report.done, report.left) == (0, {CAPPED: 1})
    assert heard == [(2, CAPPED)]
    assert [letter.state for letter in letters_of(pipeline)] == [State.REDRIVEN, State.REDRIVEN, State.OPEN]
    assert [letter.value for letter in letters_of(pipeline)] == [BAD] * 3


async def test_a_second_dead_letter_of_one_record_is_not_sent_again(make_pipeline: PipelineFactory) -> None:
    pipeline = await poisoned(make_pipeline)
    name = f"{pipeline.topic}.dlq"
    producer = Producer({"bootstrap.servers": pipeline.kafka})
    for letter in pipeline.dead_letters(3):  # as a crash before COMMIT leaves them
        producer.produce(name, letter.value(), letter.key(), headers=letter.headers())
    assert producer.flush(30) == 0
    statistics = queue_of(pipeline).statistics()
    assert (statistics.states[State.OPEN], statistics.repeats) == (3, 3)
    assert redrive(queue_of(pipeline), ALL).done == 3
    assert redrive(queue_of(pipeline), ALL).done == 0
    assert len(records_of(pipeline)) == 6


async def test_a_redrive_that_dies_anywhere_is_finished_by_the_next(
    make_pipeline: PipelineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a transaction, and with its COMMIT unsent: what it sent is not there for anybody."""
    monkeypatch.setattr("penstock_consumer.dlq.actions._RECORDS", 4)
    pipeline = await poisoned(make_pipeline, 10)

    class Died(BaseException):
        pass

    def dies_in(name: str, after: int) -> None:
        from penstock_consumer.dlq.actions import _Run

        whole, calls = getattr(_Run, name), []

        def wrapped(*args: Any) -> Any:
            calls.append(1)
            result = whole(*args)
            if len(calls) > after:
                raise Died
            return result

        with monkeypatch.context() as patched:
            patched.setattr(_Run, name, wrapped)
            with pytest.raises(Died):
                redrive(queue_of(pipeline), ALL)

    dies_in("_send", 0)
    assert records_of(pipeline)[10:] == []
    dies_in("_mark", 1)
    assert len(records_of(pipeline)) == 14
    assert redrive(queue_of(pipeline), ALL).done == 6
    records = records_of(pipeline)
    assert sorted(r.value() for r in records[10:]) == sorted(r.value() for r in records[:10])
    assert redrive(queue_of(pipeline), ALL).done == 0


async def test_a_second_command_ends_the_first(make_pipeline: PipelineFactory) -> None:
    pipeline = await poisoned(make_pipeline, 4)
    once: list[int] = []

    def meanwhile(_letter: Letter, _why: str | None) -> None:
        if not once:
            once.append(redrive(queue_of(pipeline), ALL).done)

    from penstock_consumer.dlq import actions as module

    whole, module._RECORDS = module._RECORDS, 1
    try:
        with pytest.raises(RedriveInterrupted, match="another redrive"):
            redrive(queue_of(pipeline), ALL, tell=meanwhile)
    finally:
        module._RECORDS = whole
    assert once == [3]
    assert len(records_of(pipeline)) == 8
    assert {letter.state for letter in letters_of(pipeline)} == {State.REDRIVEN}


async def test_a_discard_marks_with_its_reason_and_deletes_nothing(make_pipeline: PipelineFactory) -> None:
    pipeline = await poisoned(make_pipeline)
    chosen = Selection(first_offset=1, next_offset=2)
    assert discard(queue_of(pipeline), chosen, reason=" a test's ").done == 1
    assert discard(queue_of(pipeline), chosen, reason="again").done == 0
    by_offset = {letter.place.offset: letter for letter in letters_of(pipeline)}
    assert [by_offset[n].state for n in range(3)] == [State.OPEN, State.DISCARDED, State.OPEN]
    mark = by_offset[1].mark
    assert mark is not None
    assert (mark.reason, mark.to_offset) == ("a test's", None)
    assert redrive(queue_of(pipeline), ALL).done == 2
    statistics = queue_of(pipeline).statistics()
    assert statistics.states == {State.REDRIVEN: 2, State.DISCARDED: 1}
    assert statistics.causes == {("wrong_magic", State.REDRIVEN): 2, ("wrong_magic", State.DISCARDED): 1}


async def test_a_dry_run_says_the_same_and_changes_nothing(make_pipeline: PipelineFactory) -> None:
    pipeline = await poisoned(make_pipeline)
    before = watermarks(pipeline.settings(), f"{pipeline.topic}.dlq")
    assert redrive(queue_of(pipeline), ALL, dry_run=True, limit=2).done == 2
    assert discard(queue_of(pipeline), ALL, dry_run=True, reason="x").done == 3
    assert watermarks(pipeline.settings(), f"{pipeline.topic}.dlq") == before
    assert len(records_of(pipeline)) == 3
    assert redrive(queue_of(pipeline), ALL, limit=2).done == 2
    assert redrive(queue_of(pipeline), ALL, limit=2).done == 1


async def test_a_reference_is_redriven_from_its_record_while_that_is_there(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {"max.message.bytes": "10000"})
    large = [b"\x09" + os.urandom(50_000) for _ in range(2)]
    pipeline.produce([("e0", large[0]), ("e1", large[1])])
    await given_up(pipeline)
    pipeline.delete_records(1)
    report = redrive(queue_of(pipeline), ALL)
    assert (report.done, report.left) == (1, {GONE: 1})
    assert [(r.key(), r.value()) for r in records_of(pipeline)] == [(b"e1", large[1])] * 2


async def test_attempts_of_a_reference_are_counted_and_capped(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {"max.message.bytes": "10000"})
    pipeline.produce([("e0", b"\x09" + os.urandom(50_000))])
    for _ in range(2):
        await given_up(pipeline)
        assert redrive(queue_of(pipeline), ALL, max_attempts=2).done == 1
    await given_up(pipeline)
    assert redrive(queue_of(pipeline), ALL, max_attempts=2).left == {CAPPED: 1}
    assert [(one.attempts, one.reference) for one in letters_of(pipeline)] == [
        (0, True),
        (1, True),
        (2, True),
    ]


async def test_headers_that_hold_no_number_hinder_nobody(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(1)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {})
    place = [(PREFIX + "topic", pipeline.topic), (PREFIX + "partition", "0"), (PREFIX + "offset", "1")]
    producer = Producer({"bootstrap.servers": pipeline.kafka})
    more = [(TIMESTAMP, "\u00b2".encode()), (ATTEMPTS, b"9" * 5000)]
    producer.produce(f"{pipeline.topic}.dlq", BAD, headers=[*place, *more])
    producer.produce(f"{pipeline.topic}.dlq", b"[" * 100_000, headers=[(MARK, b"redriven")])
    assert producer.flush(30) == 0
    (letter,) = letters_of(pipeline)
    assert (letter.attempts, letter.timestamp, letter.state) == (0, None, State.OPEN)


async def test_a_header_name_that_is_not_utf8_hinders_nobody(make_pipeline: PipelineFactory) -> None:
    """In a record, in one whose dead letter is a reference, and in what another program wrote."""
    pipeline = make_pipeline(1)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {"max.message.bytes": "10000"})
    large = b"\x09" + os.urandom(50_000)
    produce_unreadable(pipeline.kafka, pipeline.topic, [BAD, large])
    produce_unreadable(pipeline.kafka, f"{pipeline.topic}.dlq", [BAD])
    await given_up(pipeline)
    assert queue_of(pipeline).statistics().foreign == 1
    assert [(one.headers, one.headers_lost, one.reference) for one in letters_of(pipeline)] == [
        ([], True, False),
        ([], False, True),
    ]
    assert redrive(queue_of(pipeline), ALL).done == 2
    again = records_of(pipeline)[2:]
    assert [record.value() for record in again] == [BAD, large]
    for record in again:
        assert [name for name, _ in record.headers()] == [ATTEMPTS, "penstock.redrive.from"]


async def test_what_the_topic_takes_no_more_is_left_and_the_others_go(make_pipeline: PipelineFactory) -> None:
    from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

    pipeline = make_pipeline(1)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {})
    large = b"\x09" + os.urandom(30_000)
    pipeline.produce([("e0", BAD), ("e1", large), ("e2", BAD + b"2")])
    await given_up(pipeline)
    admin = AdminClient({"bootstrap.servers": pipeline.kafka})
    entry = ConfigEntry("max.message.bytes", "20000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, pipeline.topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(30)
    report = redrive(queue_of(pipeline), ALL)
    assert (report.done, report.left) == (2, {"too_large": 1})
    assert [r.value() for r in records_of(pipeline)] == [BAD, large, BAD + b"2", BAD, BAD + b"2"]
    assert redrive(queue_of(pipeline), ALL).left == {"too_large": 1}


async def test_without_topics_there_is_nothing_to_see_and_a_clear_word(
    make_pipeline: PipelineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_consumer.bounded._DEADLINE", 2.0)
    pipeline = make_pipeline(1)
    assert not queue_of(pipeline).exists()
    assert letters_of(pipeline) == []
    assert redrive(queue_of(pipeline), ALL).done == 0
    with pytest.raises(TopicMismatch, match="does not exist"):
        redrive(DeadLetterQueue(pipeline.settings(), "never-made"), ALL)
    away = DeadLetterQueue(pipeline.settings(bootstrap_servers="127.0.0.1:1"), pipeline.topic)
    with pytest.raises(SourceUnavailable, match=pipeline.topic):
        away.exists()


async def test_a_record_of_another_program_is_counted_and_left(make_pipeline: PipelineFactory) -> None:
    pipeline = await poisoned(make_pipeline, 1)
    pipeline.produce([("x", b"hello"), (None, struct.pack(">I", 7))], topic=f"{pipeline.topic}.dlq")
    statistics = queue_of(pipeline).statistics()
    assert (statistics.states[State.OPEN], statistics.foreign) == (1, 2)
    assert redrive(queue_of(pipeline), ALL).done == 1


Check = Callable[[Letter], bool]


async def test_filters_choose(make_pipeline: PipelineFactory) -> None:
    pipeline = make_pipeline(2)
    pipeline.make_topic(f"{pipeline.topic}.dlq", {})
    pipeline.produce([("a", BAD), ("a", b"\0"), ("a", BAD)], partition=0)
    await given_up(pipeline, "too_short")
    pipeline.produce([("b", b"\0"), ("b", BAD)], partition=1)
    await given_up(pipeline)  # those of before a second time: the first dead letter counts
    every = letters_of(pipeline)
    assert len(every) == 5
    middle = max(letter.at for letter in every)
    cases: dict[Selection, Check] = {
        Selection(causes=("too_short",)): lambda one: one.cause == "too_short",
        Selection(partition=1): lambda one: one.place.partition == 1,
        Selection(first_offset=1): lambda one: one.place.offset >= 1,
        Selection(partition=0, next_offset=2): lambda one: one.place.partition == 0 and one.place.offset < 2,
        Selection(since=middle): lambda one: one.at >= middle,
        Selection(until=middle): lambda one: one.at < middle,
        Selection(states=(State.REDRIVEN,)): lambda one: False,
    }
    for selection, wanted in cases.items():
        assert letters_of(pipeline, selection) == [one for one in every if wanted(one)]

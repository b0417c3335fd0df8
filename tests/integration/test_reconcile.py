"""`penstock reconcile` on real Kafka and PostgreSQL: what balances, and each thing that does not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from fixtures.consuming import Pipeline, PipelineFactory, event
from fixtures.waiting import wait_for_async
from penstock.cli.app import run
from penstock.cli.exit_codes import ExitCode
from penstock.errors import InputError
from penstock.reconcile import Reconciliation, Scope, books, reconcile
from penstock.reconcile.verdict import Problem
from penstock.settings import Settings
from penstock_consumer.dlq import DeadLetterQueue, Selection, redrive
from penstock_schemas.errors import UnknownSchemaId
from penstock_schemas.registry import AsyncSchemaSource


def settings_of(pipeline: Pipeline, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "kafka_bootstrap_servers": pipeline.kafka,
        "reader_database_url": pipeline.database.reader_url,
        "topics": (pipeline.topic,),
        "group_id": pipeline.group,
    }
    return Settings(**(values | changes))


async def reconciled(pipeline: Pipeline, **scope: Any) -> Reconciliation:
    return await reconcile(settings_of(pipeline), Scope(**scope))


def problems(found: Reconciliation) -> set[str]:
    return {str(problem) for _, problem, _ in found.problems}


async def ingested(pipeline: Pipeline, values: Any, records: int, **settings: Any) -> None:
    pipeline.produce(values)
    worker = pipeline.start(dead_letter_share=1.0, **settings)
    await pipeline.ingested(records)
    await worker.stop()


async def mixed(make_pipeline: PipelineFactory) -> Pipeline:
    """20 stored, 5 duplicates, 1 conflict, 2 dead letters, 1 tombstone."""
    pipeline = make_pipeline(1)
    values = pipeline.values(20)
    conflict = ("e0", pipeline.encode(event(0, payload={"n": "another"})))
    bad = [("e0", b"\x09"), ("e0", None), ("e1", b"")]
    await ingested(pipeline, [*values, *values[:5], conflict, *bad], 29)
    return pipeline


async def test_every_outcome_is_counted_once_and_balances(make_pipeline: PipelineFactory) -> None:
    pipeline = await mixed(make_pipeline)
    pipeline.produce(pipeline.values(3, start=100))
    found = await reconciled(pipeline)
    assert found.problems == []
    (line,) = found.lines
    counts = line.counts
    assert (counts.stored, counts.duplicate, counts.conflict, counts.dead_lettered, counts.tombstone) == (
        20, 5, 1, 2, 1,
    )  # fmt: skip
    assert (line.position, line.high, line.waiting, line.letters) == (29, 32, 3, 2)
    assert (line.gaps, line.unverified) == (0, 0)
    assert sum(leaf.rows or 0 for leaf in found.leaves) == 20


async def test_poison_whose_schema_comes_later_is_redriven_stored_and_balances(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(2)

    class Late:
        """Knows no schema at first."""

        late = True

        async def schema(self, schema_id: int) -> str:
            if self.late:
                raise UnknownSchemaId(schema_id, "the registry")
            return await AsyncSchemaSource(pipeline.schemas).schema(schema_id)

    registry = Late()
    await ingested(pipeline, pipeline.values(30), 30, schemas=registry)
    assert (await reconciled(pipeline)).balanced
    registry.late = False
    queue = DeadLetterQueue(pipeline.settings(), pipeline.topic)
    assert (await asyncio.to_thread(redrive, queue, Selection())).done == 30
    await ingested(pipeline, [], 60, schemas=registry)
    found = await reconciled(pipeline)
    assert found.problems == []
    assert found.waiting == 0, "the transaction's markers are no records"
    assert sum(line.counts.stored for line in found.lines) == 30
    assert sum(line.counts.dead_lettered for line in found.lines) == 30
    assert sorted(await pipeline.keys()) == sorted(f"k{n}" for n in range(30))


async def test_gaps_of_transactions_are_told_from_records_that_are_missing(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    producer = Producer({"bootstrap.servers": pipeline.kafka, "transactional.id": pipeline.topic})
    producer.init_transactions(30)
    values = pipeline.values(12)
    for number, commits in enumerate((True, False, True)):
        producer.begin_transaction()
        for key, value in values[4 * number : 4 * number + 4]:
            producer.produce(pipeline.topic, value, key)
        assert producer.flush(30) == 0
        producer.commit_transaction(30) if commits else producer.abort_transaction(30)
    await ingested(pipeline, pipeline.values(1, start=50), 9)
    found = await reconciled(pipeline)
    (line,) = found.lines
    assert (found.problems, line.counts.stored, line.gaps, line.unverified) == ([], 9, 7, 0)
    await pipeline.rows("UPDATE penstock.ingested SET stored = stored - 1")
    assert problems(await reconciled(pipeline)) == {"unaccounted"}
    await pipeline.rows("UPDATE penstock.ingested SET stored = stored + 2")
    assert problems(await reconciled(pipeline)) == {"surplus", "rows"}


FORGERIES: dict[str, tuple[str, set[str]]] = {
    "a range is gone": ("DELETE FROM penstock.ingested", {"missing"}),
    "an event is gone": ("DELETE FROM penstock.events WHERE idempotency_key = 'k3'", {"rows"}),
    "a dead letter too many": (
        "UPDATE penstock.ingested SET dead_lettered = dead_lettered + 1, duplicate = duplicate - 1",
        {"dead_letters"},
    ),
    "an outcome is gone": ("UPDATE penstock.ingested SET tombstone = tombstone - 1", {"unaccounted"}),
    "the position ran ahead": ("UPDATE penstock.offsets SET next_offset = 500", {"truncated", "missing"}),
    "the position went back": ("UPDATE penstock.offsets SET next_offset = 7", {"overlap"}),
    "another topic's books": (
        "WITH one AS (UPDATE penstock.offsets SET topic_id = 'old') "
        "UPDATE penstock.ingested SET topic_id = 'old'",
        {"recreated"},
    ),
}


async def test_forged_books_do_not_balance(make_pipeline: PipelineFactory) -> None:
    pipeline = await mixed(make_pipeline)
    tables = ("ingested", "offsets", "events")
    await pipeline.rows("CREATE SCHEMA saved")
    for name in tables:
        await pipeline.rows(f"CREATE TABLE saved.{name} AS TABLE penstock.{name}")
    for forged, (query, wanted) in FORGERIES.items():
        assert (await reconciled(pipeline)).balanced
        await pipeline.rows(query)
        assert problems(await reconciled(pipeline)) == wanted, forged
        for name in tables:
            await pipeline.rows(f"DELETE FROM penstock.{name}")
            await pipeline.rows(f"INSERT INTO penstock.{name} TABLE saved.{name}")


async def test_what_kafka_deleted_unseen_is_a_loss_and_once_accepted_balances(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = make_pipeline(1)
    await ingested(pipeline, pipeline.values(5), 5)
    pipeline.produce(pipeline.values(10, start=5))
    pipeline.delete_records(12)
    found = await reconciled(pipeline)
    assert problems(found) == {"expired"}
    assert found.lost
    await ingested(pipeline, [], 15, accept_loss=frozenset({"*"}))
    found = await reconciled(pipeline)
    assert found.problems == []
    assert found.lines[0].counts.lost == 7


async def test_dead_letters_that_expired_are_said_not_missed(make_pipeline: PipelineFactory) -> None:
    pipeline = await mixed(make_pipeline)
    admin = AdminClient({"bootstrap.servers": pipeline.kafka})
    asked = [KafkaPartition(f"{pipeline.topic}.dlq", 0, 1)]
    for future in admin.delete_records(asked).values():
        future.result(30)
    found = await reconciled(pipeline)
    assert found.problems == []
    assert found.lines[0].letters is None
    assert any("cannot be held against the books" in note for note in found.notes)


async def test_since_looks_at_newer_ranges_only_and_deep_at_everything(
    make_pipeline: PipelineFactory,
) -> None:
    pipeline = await mixed(make_pipeline)
    await pipeline.rows(
        "UPDATE penstock.ingested SET last_at = last_at - interval '2 days', events_partition = NULL"
    )
    await ingested(pipeline, pipeline.values(4, start=200), 33)
    rows = await pipeline.rows("SELECT clock_timestamp() - interval '1 hour' AS at")
    newer = await reconciled(pipeline, since=rows[0]["at"])
    assert [(line.first, line.counts.stored) for line in newer.lines] == [(29, 4)]
    assert newer.problems == []
    whole = await reconciled(pipeline, deep=True)
    assert [(line.first, line.counts.stored) for line in whole.lines] == [(0, 24)]
    assert whole.problems == []
    later = await reconciled(pipeline, since=rows[0]["at"].replace(year=2100))
    assert [(line.first, line.counts.total, line.problems) for line in later.lines] == [(33, 0, {})]


async def test_another_group_and_an_unknown_topic(make_pipeline: PipelineFactory) -> None:
    pipeline = await mixed(make_pipeline)
    found = await reconcile(settings_of(pipeline, group_id="nobody"))
    assert (found.problems, found.waiting, found.lines[0].position) == ([], 29, None)
    assert "No worker of group nobody has a position" in found.notes[0]
    found = await reconcile(settings_of(pipeline, group_id="nobody"), Scope(named=True))
    assert problems(found) == {"unknown_group"}
    with pytest.raises(InputError, match="no topic never-made"):
        await reconcile(settings_of(pipeline, topics=("never-made",)))


async def test_the_command_prints_exits_and_writes_metrics(
    make_pipeline: PipelineFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    pipeline = await mixed(make_pipeline)
    monkeypatch.setenv("PENSTOCK_KAFKA_BOOTSTRAP_SERVERS", pipeline.kafka)
    monkeypatch.setenv("PENSTOCK_READER_DATABASE_URL", pipeline.database.reader_url)
    monkeypatch.setenv("PENSTOCK_TOPICS", pipeline.topic)
    monkeypatch.setenv("PENSTOCK_GROUP_ID", pipeline.group)
    monkeypatch.setenv("PENSTOCK_TIMEOUT_SECONDS", "2")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)

    async def command(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, ["reconcile", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    capsys.readouterr()  # what the worker logged
    code, out, err = await command("--textfile", "books.prom")
    assert (code, err) == (ExitCode.OK, "")
    assert f"{pipeline.topic}:0" in out
    assert "Balanced: 29 records accounted for, 0 records waiting." in out
    assert max(map(len, out.splitlines())) <= 120
    metrics = (tmp_path / "books.prom").read_text()
    assert "penstock_reconcile_balanced 1.0" in metrics
    assert f'penstock_reconcile_records{{outcome="stored",topic="{pipeline.topic}"}} 20.0' in metrics
    code, out, err = await command("--group", "penstok", "--textfile", "books.prom")
    assert code == ExitCode.FAILED
    assert "NOT balanced" in out
    assert "unknown_group" in err
    assert "penstock_reconcile_balanced 0.0" in (tmp_path / "books.prom").read_text()
    await pipeline.rows("DELETE FROM penstock.ingested")
    code, out, err = await command("--json", "--textfile", "books.prom")
    found = json.loads(out)
    assert code == ExitCode.FAILED
    assert not found["balanced"]
    assert [item["problem"] for item in found["problems"]] == ["missing"]
    assert "penstock replay run" in err
    assert "penstock_reconcile_balanced 0.0" in (tmp_path / "books.prom").read_text()
    pipeline.produce(pipeline.values(2, start=900))
    pipeline.delete_records(31)
    assert (await command())[0] == ExitCode.LOSS
    assert (await command("--textfile", "no/such/folder/x"))[0] == ExitCode.DATA
    assert (await command("--since", "whenever"))[0] == ExitCode.USAGE
    assert (await command("--database-url", "postgresql://127.0.0.1:1/x"))[0] == ExitCode.UNAVAILABLE
    assert (await command("--kafka", "127.0.0.1:1"))[0] == ExitCode.UNAVAILABLE


async def test_a_partition_that_was_removed_past_the_books_is_missed(
    make_pipeline: PipelineFactory, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    pipeline = make_pipeline(1)
    await ingested(pipeline, pipeline.values(5), 5)
    leaf = await admin.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    await admin.execute(f"DROP TABLE penstock.{leaf}")
    for deep in (False, True):
        found = await reconciled(pipeline, deep=deep)
        assert [(where, str(what)) for where, what, _ in found.problems] == [(leaf, "rows")]


async def closed_leaf(pipeline: Pipeline, admin: asyncpg.Connection[asyncpg.Record]) -> str:
    """The partition that held what was ingested so far, rolled away and sealed."""
    leaf: str = await admin.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")
    await admin.execute("SELECT penstock.ensure_partitions(1)")
    await admin.execute("SELECT penstock.roll(clock_timestamp() + interval '1 day')")
    await admin.execute("SELECT penstock.close_partition($1)", leaf)
    return leaf


async def test_an_event_that_is_gone_from_a_closed_partition_is_missed(
    make_pipeline: PipelineFactory, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    pipeline = await mixed(make_pipeline)
    # An event that came without Kafka is no substitute for one that is gone.
    await pipeline.rows(
        "INSERT INTO penstock.events SELECT (jsonb_populate_record(e, jsonb_build_object("
        "'sequence', 999, 'event_id', gen_random_uuid(), 'idempotency_key', 'own'))).* "
        "FROM penstock.events e WHERE idempotency_key = 'k0'"
    )
    leaf = await closed_leaf(pipeline, admin)
    found = await reconciled(pipeline)
    assert (found.problems, found.notes) == ([], [])
    await pipeline.rows("DELETE FROM penstock.events WHERE idempotency_key = 'k3'")
    found = await reconciled(pipeline)
    assert found.problems == [(leaf, Problem.ROWS, "holds 20 events, it held 21 when it was closed")]


async def test_a_closed_partition_too_large_to_count_is_counted_once_something_was_deleted_from_it(
    make_pipeline: PipelineFactory,
    admin: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(books, "_COUNT_ALL", 1)
    pipeline = await mixed(make_pipeline)
    leaf = await closed_leaf(pipeline, admin)
    found = await reconciled(pipeline)
    assert found.problems == []
    assert any(f"1 closed partition ({leaf}) were not counted now" in note for note in found.notes), (
        found.notes
    )
    await admin.execute("DELETE FROM penstock.events WHERE idempotency_key = 'k3'")

    async def missed() -> bool:  # the statistics are written a moment after the statement
        return problems(await reconciled(pipeline)) == {"rows"}

    await wait_for_async(missed, 30, "the deletion to be noticed")

"""The fixtures give each test servers, topics and databases of its own."""

import asyncpg
import pytest
from confluent_kafka.admin import AdminClient

from fixtures.databases import Database
from fixtures.topics import TopicFactory
from fixtures.waiting import wait_for, wait_for_async


def test_topics_are_unique_and_have_the_partitions_asked_for(kafka: str, topic: TopicFactory) -> None:
    first, second = topic(), topic(3)
    assert first != second
    topics = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics
    assert len(topics[first].partitions) == 1
    assert len(topics[second].partitions) == 3


async def test_an_empty_database_lets_every_login_in_and_has_no_tables(empty_database: Database) -> None:
    for url in (
        empty_database.url,
        empty_database.writer_url,
        empty_database.reader_url,
        empty_database.retention_url,
        empty_database.registry_url,
    ):
        connection = await asyncpg.connect(url, timeout=10)
        try:
            assert await connection.fetchval("SELECT current_database()") == empty_database.name
            assert not await connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = 'penstock'")
            assert not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        finally:
            await connection.close(timeout=5)


async def test_logins_belong_to_the_group_roles_of_their_kind(empty_database: Database) -> None:
    for url, group in (
        (empty_database.writer_url, "penstock_writer"),
        (empty_database.reader_url, "penstock_reader"),
        (empty_database.retention_url, "penstock_retention"),
        (empty_database.registry_url, "penstock_registry"),
    ):
        connection = await asyncpg.connect(url, timeout=10)
        try:
            groups = await connection.fetch(
                "SELECT rolname FROM pg_roles WHERE rolname LIKE 'penstock%' AND NOT rolcanlogin"
                " AND pg_has_role(current_user, oid, 'member')"
            )
            assert [row["rolname"] for row in groups] == [group]
        finally:
            await connection.close(timeout=5)


def test_wait_for_returns_what_came_true_and_names_what_did_not() -> None:
    answers = iter([0, 0, 7])
    assert wait_for(lambda: next(answers), 5, "seven") == 7
    with pytest.raises(AssertionError, match="in vain for the impossible"):
        wait_for(lambda: False, 0.01, "the impossible")


async def test_wait_for_async_takes_coroutines() -> None:
    async def seven() -> int:
        return 7

    assert await wait_for_async(seven, 5, "seven") == 7

"""Ids that no producer makes, asked for all the same."""

from uuid import UUID

import pytest

from fixtures.databases import Database
from penstock_store.postgresql import PostgresEventStore


@pytest.mark.parametrize(
    "text",
    ["ffffffff-ffff-7fff-bfff-ffffffffffff", "00000000-0000-7000-8000-000000000000"],
    ids=["after the year 9999", "at the epoch"],
)
async def test_a_time_ordered_id_of_any_time_is_looked_up(database: Database, text: str) -> None:
    async with PostgresEventStore(database.reader_url) as store:
        assert await store.get_event(UUID(text)) is None

"""One JSON value has one canonical text and one content hash, whoever spells it and whatever stores it."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from fixtures.databases import Database
from fixtures.event_stores import MakeStore, needs
from penstock_schemas import Event
from penstock_schemas._json_text import canonical_text
from penstock_schemas._text import canonical_json
from penstock_store._json import load_objects
from penstock_store.contract import QueryOptions
from penstock_store.store_contract import Capability

_on_a_server = settings(
    max_examples=40,
    deadline=None,
    phases=set(Phase) - {Phase.shrink},
    suppress_health_check=list(HealthCheck),
)
_floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.builds(math.ldexp, st.floats(-1, 1), st.integers(-80, 80)),
    st.sampled_from([0.0, -0.0, 1.0, 1e15, 1e16, 1e17, 1e23, -1e22, 1.5e-7, 5e-324, 1.7976931348623157e308]),
)
_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5) | (
    st.sampled_from(["1e+16", "-0.0", ':1e+16,"', '\\"', "a:-0.0]"])
)
_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), _floats, _texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_texts, inner, max_size=4)),
    max_leaves=10,
)
_payloads = st.lists(st.dictionaries(_texts, _values, max_size=4), min_size=1, max_size=15)


def test_an_event_reads_back_with_the_text_and_hash_it_was_stored_with(make_store: MakeStore) -> None:
    """What a retry, a move or another backend compares: 1e16 came back from jsonb as another content."""
    with asyncio.Runner() as runner:
        store = make_store()
        runner.run(store.initialize())
        try:

            @_on_a_server
            @given(_payloads, st.dictionaries(_texts.filter(lambda key: key != "tags"), _values, max_size=3))
            @example(
                [{"n": value} for value in (1e16, -1e16, 1e23, 1e300, -0.0, 0.0, 1.0, 2**63, 5e-324)], {}
            )
            def check(payloads: list[dict[str, Any]], metadata: dict[str, Any]) -> None:
                for payload in payloads:  # one by one: some backends take no batch of several entities
                    entity = str(uuid.uuid4())
                    event = Event(event_type="t", entity_id=entity, payload=payload, metadata=metadata)
                    runner.run(store.append(event))
                    read = runner.run(_only(entity))
                    assert read.payload_json == event.payload_json
                    assert read.content_hash == event.content_hash
                    assert canonical_json(read.metadata) == canonical_json(metadata)

            async def _only(entity: str) -> Event:
                options = QueryOptions(entity_id=entity, tenant_id="default")
                (event,) = [event async for event in store.stream(options)]
                return event

            check()
        finally:
            runner.run(store.close())


@needs(Capability.ANY_QUERY)
def test_a_number_is_found_by_its_value(make_store: MakeStore) -> None:
    numbers = [18726817531827532.0, 1e23, -0.0, 1.0, 2**70]

    async def found() -> list[int]:
        async with make_store() as store:
            for number in numbers:
                await store.append(Event(event_type="t", entity_id="e", payload={"n": number}))
            pages = [await store.get_events(QueryOptions(payload={"n": number})) for number in numbers]
            return [event.sequence for page in pages for event in page.events]

    assert asyncio.run(found()) == [1, 2, 3, 4, 5]


_digits = st.text("0123456789", min_size=1, max_size=22)
_numbers = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "-"]),
        st.just("0") | st.builds(str, st.integers(1, 10**20)),
        st.just("") | _digits.map(lambda digits: f".{digits}"),
        st.just("")
        | st.builds(
            "{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 40)
        ),
    ),
)


def test_a_foreign_text_has_the_hash_of_what_jsonb_makes_of_it(database: Database) -> None:
    """A worker makes the hash of the text on the wire; the store gives back jsonb's spelling of it."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database.writer_url))
        try:

            @_on_a_server
            @given(st.lists(_numbers, min_size=50, max_size=100))
            @example(
                [
                    "1e16",
                    "1.0e1",
                    "1.00",
                    "-0",
                    "-0.0",
                    "0e5",
                    "0E-3",
                    "-0.0e9",
                    "1E5",
                    "1.50e1",
                    "12345678901234567.8e1",
                ]
            )
            @example(
                [
                    "123456789012345678.0",
                    "9007199254740993.5",
                    "1e-400",
                    "-1e-400",
                    "0e999999",
                    "1" + "0" * 308,
                ]
            )
            def check(numbers: list[str]) -> None:
                texts = [f'{{"b":[{number}],"a":{{"x":{number},"-0.0":":1e+16"}}}}' for number in numbers]
                stored = runner.run(
                    connection.fetch("SELECT t::jsonb::text FROM unnest($1::text[]) t", texts)
                )
                for text, (spelt,) in zip(texts, stored, strict=True):
                    (read,) = load_objects([spelt])
                    assert canonical_json(read) == canonical_text(text.encode()), (text, spelt)

            check()
        finally:
            runner.run(connection.close())


@pytest.mark.parametrize("value", [1e16, [1e16, "1e+16"], -0.0, {"a": -0.0}, "1e+16"])
def test_the_canonical_text_reads_as_the_same_value(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert b"e+" not in text.replace(b'"1e+16"', b"")
    assert canonical_json(json.loads(text)) == text

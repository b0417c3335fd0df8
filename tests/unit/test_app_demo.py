"""The demo's parts that need no server: the sample, the bookkeeping, the summary."""

import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from penstock.books import Balance, Books, Counts
from penstock.demo import pipeline
from penstock.demo.rendering import Surroundings, show
from penstock.demo.result import DemoResult, instant
from penstock.demo.sample import PARCELS, poison_records, sample_events
from penstock.demo.source import open_source
from penstock.demo.tally import Tally
from penstock.errors import InputError, ServerUnavailableError
from penstock_schemas import Event, RecordedEvent
from penstock_schemas.catalogue import load

CATALOGUE = Path(__file__).parents[2] / "schemas" / "catalogue"
START = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def sample() -> Sequence[Event]:
    return list(sample_events())


def test_the_sample_is_always_the_same(sample: Sequence[Event]) -> None:
    assert [event.model_dump() for event in sample_events()] == [event.model_dump() for event in sample]


def test_the_sample_shows_each_outcome_and_is_in_order_of_time(sample: Sequence[Event]) -> None:
    first: dict[str, Event] = {}
    repeated, reused = 0, 0
    for event in sample:
        before = first.setdefault(event.idempotency_key, event)
        if before is not event:
            assert before.event_id != event.event_id  # a retry has a new id: the key is what is recognised
            repeated += before.content_hash == event.content_hash
            reused += before.content_hash != event.content_hash
    assert 1900 <= len(sample) <= 2500
    assert len({event.entity_id for event in sample}) == PARCELS
    assert repeated >= 10
    assert reused == 2
    assert len({event.event_id for event in sample}) == len(sample)
    assert all(a.occurred_at <= b.occurred_at for a, b in pairwise(first.values()))


def test_the_sample_fits_the_event_catalogue(sample: Sequence[Event]) -> None:
    entries = {(entry.event_type, entry.version): entry for entry in load(CATALOGUE)}
    seen = set()
    for event in sample:
        kind = (event.event_type, event.schema_version)
        if entry := entries.get(kind):
            entry.encode(event)
            seen.add(event.event_type)
    assert seen == {event_type for event_type, _ in entries}


def test_sample_ids_are_time_ordered_uuids_of_version_7(sample: Sequence[Event]) -> None:
    for event in sample[:200]:
        assert event.event_id.version == 7
        assert event.event_id.int >> 80 == int(event.occurred_at.timestamp() * 1000)


def test_no_poison_record_can_be_decoded() -> None:
    from penstock_schemas.decoder import Decoder
    from penstock_schemas.encoder import EventEncoder
    from penstock_schemas.errors import DecodeError, SchemaNotLoaded
    from penstock_schemas.registry import InMemoryRegistry

    registry = InMemoryRegistry()
    good = EventEncoder(registry).encode(Event(event_type="a", entity_id="b", payload={"c": "d" * 50}), "t")
    decoder = Decoder()
    decoder.add_schema(decoder.schema_id(good), registry.schema(decoder.schema_id(good)))
    assert decoder.decode(good).entity_id == "b"
    reasons = set()
    for poison in poison_records(good):
        with pytest.raises((DecodeError, SchemaNotLoaded)) as caught:
            decoder.decode(poison.value)
        reasons.add(getattr(caught.value, "reason", "unknown schema"))
    assert len(reasons) == len(poison_records(good))


def _event(entity: int, number: int) -> Event:
    return Event(
        event_type="t",
        entity_id=f"e{entity}",
        idempotency_key=f"e{entity}/{number}",
        occurred_at=START + timedelta(seconds=number),
    )


def _recorded(event: Event, sequence: int) -> RecordedEvent:
    return RecordedEvent(**event.model_dump(), sequence=sequence, recorded_at=START)


_HISTORY = st.lists(st.integers(0, 3), min_size=1, max_size=30).map(
    lambda entities: [_event(entity, number) for number, entity in enumerate(entities)]
)


@given(history=_HISTORY, data=st.data())
def test_any_interleaving_that_keeps_each_entity_s_order_is_in_order(
    history: list[Event], data: st.DataObject
) -> None:
    tally = Tally()
    for event in history:
        tally.emitted(event)
    waiting = {event.entity_id: [e for e in history if e.entity_id == event.entity_id] for event in history}
    sequence = 0
    while waiting:
        entity = data.draw(st.sampled_from(sorted(waiting)))
        sequence += 1
        assert tally.read_back(_recorded(waiting[entity].pop(0), sequence))
        if not waiting[entity]:
            del waiting[entity]
    assert (tally.disordered, tally.missing, tally.read) == (0, 0, len(history))


@given(history=_HISTORY, data=st.data())
def test_two_events_of_one_entity_that_changed_places_are_found(
    history: list[Event], data: st.DataObject
) -> None:
    pairs = [
        (i, j)
        for i, a in enumerate(history)
        for j, b in enumerate(history)
        if i < j and a.entity_id == b.entity_id
    ]
    if not pairs:
        return
    left, right = data.draw(st.sampled_from(pairs))
    tally = Tally()
    for event in history:
        tally.emitted(event)
    changed = list(history)
    changed[left], changed[right] = changed[right], changed[left]
    for sequence, event in enumerate(changed, 1):
        tally.read_back(_recorded(event, sequence))
    assert tally.disordered > 0
    assert tally.missing == 0


def test_what_is_not_read_back_is_missing_and_what_is_not_ours_is_left_out() -> None:
    tally = Tally()
    mine, lost, other = _event(1, 1), _event(1, 2), _event(2, 3)
    for event in (mine, lost, mine):
        tally.emitted(event)
    assert tally.distinct == 2
    assert tally.read_back(_recorded(mine, 1))
    assert not tally.read_back(_recorded(other, 2))
    assert (tally.missing, tally.read, set(tally.entities)) == (1, 1, {("default", "e1")})


def test_the_same_history_stored_again_after_the_dedupe_window_is_no_disorder() -> None:
    tally = Tally()
    history = [_event(1, number) for number in range(3)]
    for event in history:
        tally.emitted(event)
    for sequence, event in enumerate(history * 2, 1):
        tally.read_back(_recorded(event, sequence))
    assert (tally.disordered, tally.missing) == (0, 0)


def _result(**changes: object) -> DemoResult:
    values = {
        "source": "the built-in sample",
        "topic": "events",
        "emitted": 12,
        "counts": Counts(stored=9, duplicate=1, conflict=1, dead_lettered=1),
        "entities": 2,
        "correlations": 1,
        "event_types": 3,
        "first": START,
        "last": START + timedelta(microseconds=1500),
        "seconds": 1.23456,
        "read": 9,
        "read_seconds": 0.1,
        "history": [_recorded(_event(1, 1), 1)],
        "problems": [],
        "notes": [],
        **changes,
    }
    return DemoResult(**values)  # type: ignore[arg-type]


def test_the_object_has_exactly_the_documented_keys() -> None:
    assert json.loads(json.dumps(_result().as_json())) == {
        "emitted": 12,
        "stored": 9,
        "duplicates": 1,
        "conflicts": 1,
        "dead_letters": 1,
        "entities": 2,
        "correlations": 1,
        "event_types": 3,
        "first": "2026-03-02T00:00:00.000Z",
        "last": "2026-03-02T00:00:00.001500Z",
        "seconds": 1.235,
    }


def test_times_are_written_in_utc() -> None:
    assert instant(datetime.fromisoformat("2011-10-01T00:38:44.546+02:00")) == "2011-09-30T22:38:44.546Z"
    assert instant(None) is None


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_explains_and_says_how_to_go_on(width: int) -> None:
    out = StringIO()
    around = Surroundings(command="penstock", metrics="http://127.0.0.1:9464/metrics", sample=True)
    show(_result(notes=["3 lines are no events"]), around, Console(file=out, width=width))
    text = " ".join(out.getvalue().replace("│", " ").split())
    for said in ("duplicates", "dead letters", "events.dlq", "Nothing is missing", "3 lines are no events"):
        assert said in text
    for command in ("penstock events --entity e1", "penstock doctor", "penstock down"):
        assert command in text
    assert all(len(line) <= width for line in out.getvalue().splitlines())
    comment, metrics = "# the worker's metrics", "http://127.0.0.1:9464/metrics"
    lines = [line for line in out.getvalue().splitlines() if comment in line or metrics in line]
    assert len(lines) == (2 if width == 80 else 1), "a comment that would be broken has its own line"


def test_a_problem_is_not_hidden() -> None:
    out = StringIO()
    around = Surroundings(command="penstock", metrics=None, sample=False)
    show(_result(problems=["7 events are missing"]), around, Console(file=out, width=100))
    assert "7 events are missing" in out.getvalue()
    assert "Nothing is missing" not in out.getvalue()


def test_counts_subtract_by_outcome_and_a_balance_says_how_far_it_is_behind() -> None:
    difference = Counts(stored=5, duplicate=3) - Counts(stored=2)
    assert difference == Counts(stored=3, duplicate=3)
    assert difference.total == 6
    balance = Balance(positions={0: 5, 1: 9})
    assert balance.behind({0: 7, 1: 9, 2: 4}) == 2 + 0 + 4


def test_bad_lines_of_a_file_are_counted_by_number(tmp_path: Path) -> None:
    good = '{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"e"}'
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(f"{good}\nno event\n\n{good}\n".encode()))
    with open_source(path) as source:
        assert len(list(source.events)) == 2
        assert source.bad.count == 1
        assert source.bad.first[0].startswith("line 2: ")
        assert source.done() == 1.0


def test_a_missing_file_is_the_input_s_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.jsonl"), open_source(tmp_path / "nothing.jsonl"):
        pass


class _Books:
    """Its balance never changes."""

    async def balance(self) -> Balance:
        return Balance(positions={0: 5, 1: 9})

    async def change(self) -> None:
        pass


async def test_what_is_left_at_the_end_of_a_topic_need_not_be_records() -> None:
    asked = []

    def left(positions: Mapping[int, int], ends: Mapping[int, int]) -> int:
        asked.append((positions, ends))
        return 0

    ends = {0: 6, 1: 10}  # a transaction's markers, which no worker ever takes
    balance = await pipeline._accounted(cast(Books, _Books()), ends, left, lambda _balance: None)
    assert balance.behind(ends) == 2
    assert asked == [(balance.positions, ends)]


async def test_records_that_nobody_takes_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_STALL", 0.0)
    with pytest.raises(ServerUnavailableError, match="Still in Kafka: 1 record\\."):
        await pipeline._accounted(cast(Books, _Books()), {0: 6, 1: 10}, lambda *_: 1, lambda _balance: None)


def test_a_file_without_any_event_is_the_input_s_fault(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("no event\n")
    with open_source(path) as source:
        assert list(source.events) == []
        with pytest.raises(InputError, match="line 1: "):
            pipeline._something(0, source)
        assert pipeline._something(3, source) == 3

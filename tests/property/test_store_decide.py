"""Laws of deciding what is stored, and of the COPY form. Pure."""

from __future__ import annotations

import struct
import uuid
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from fixtures.ingesting import batch, event, ref
from penstock_schemas.fields import EventFields
from penstock_schemas.rows import row_of
from penstock_store.ingest import Batch, Claim, Outcome
from penstock_store.ingest.decide import Fault, Known, counts, decide
from penstock_store.ingest.rows import COLUMNS, HEADER, TRAILER, copy_chunk

_CLAIM = Claim(group_id="g", ref=ref(), epoch=1, position=None)
_IDS = [uuid.UUID(int=n + 1) for n in range(6)]

_records = st.lists(
    st.builds(
        lambda key, content, which: event(key, content, event_id=which),
        st.sampled_from("abcde"),
        st.sampled_from("12"),
        st.sampled_from(_IDS),
    ),
    max_size=12,
)


class _Table:
    """A table with the store's unique indexes, into which rows are inserted one by one."""

    def __init__(self, before: list[EventFields]) -> None:
        self.keys: dict[str, bytes] = {}
        self.ids: set[bytes] = set()
        for fields in before:
            self.insert(fields, refused=False)

    def insert(self, fields: EventFields, *, refused: bool) -> Outcome:
        if fields.idempotency_key in self.keys:
            same = self.keys[fields.idempotency_key] == fields.content_hash
            return Outcome.DUPLICATE if same else Outcome.CONFLICT
        if fields.event_id in self.ids:
            return Outcome.CONFLICT
        if refused:
            return Outcome.DEAD_LETTERED
        self.keys[fields.idempotency_key] = fields.content_hash
        self.ids.add(fields.event_id)
        return Outcome.STORED


@given(_records, _records, st.sets(st.integers(0, 11)))
def test_the_same_as_inserting_one_by_one(
    before: list[EventFields], records: list[EventFields], bad: set[int]
) -> None:
    table = _Table(before)
    known = Known(
        keys={("default", key): content for key, content in table.keys.items()},
        event_ids=set(table.ids),
        faults={index: Fault("refused", "22P02") for index in bad},
    )
    made = batch(_CLAIM, records)
    decision = decide(made, known)
    expected = [table.insert(fields, refused=index in bad) for index, fields in enumerate(records)]
    assert list(decision.store) == [i for i, outcome in enumerate(expected) if outcome is Outcome.STORED]
    assert list(decision.duplicates) == [
        i for i, outcome in enumerate(expected) if outcome is Outcome.DUPLICATE
    ]
    assert [(r.offset, r.outcome) for r in decision.rejections] == [
        (i, o) for i, o in enumerate(expected) if o in (Outcome.CONFLICT, Outcome.DEAD_LETTERED)
    ]


@given(_records, st.integers(0, 3), st.integers(0, 3))
def test_every_record_has_one_outcome(records: list[EventFields], dead: int, tombstones: int) -> None:
    made = batch(_CLAIM, records)
    made.parts[0].dead_lettered = dead
    made.parts[0].tombstones = tombstones
    (found,) = counts(made, decide(made, Known()))
    assert sum(found.values()) == len(records) + dead + tombstones


_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=1100)
_fields = st.builds(
    EventFields,
    event_id=st.binary(min_size=16, max_size=16),
    event_type=_text,
    occurred_at=st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
    actor_type=st.none() | _text,
    actor_id=st.none() | _text,
    entity_id=_text,
    tenant_id=_text,
    correlation_id=_text,
    causation_id=st.none() | _text,
    schema_version=st.integers(-(2**31), 2**31 - 1),
    idempotency_key=_text,
    content_hash=st.binary(max_size=32),
    payload=st.binary(max_size=100),
    metadata=st.binary(max_size=10),
)


class _Row(NamedTuple):
    sequence: int
    stamp: int
    fields: EventFields


def _parse(data: bytes) -> list[_Row]:
    """Binary COPY as PostgreSQL's manual describes it, written apart from the encoder."""
    assert data.startswith(b"PGCOPY\n\xff\r\n\0" + b"\0" * 8)
    position, rows = 19, []
    while (width := struct.unpack_from(">h", data, position)[0]) != -1:
        assert width == len(COLUMNS) == 16
        position += 2
        cells: list[bytes | None] = []
        for _ in range(width):
            (size,) = struct.unpack_from(">i", data, position)
            position += 4
            cells.append(None if size == -1 else data[position : position + size])
            position += max(size, 0)
        rows.append(_row(cells))
    assert position + 2 == len(data)
    return rows


def _row(cells: list[bytes | None]) -> _Row:
    times = [struct.unpack(">q", cells[n] or b"")[0] + 946_684_800_000_000 for n in (1, 4)]
    words = [None if cell is None else cell.decode() for cell in cells[5:11]]
    payload, metadata = cells[14] or b"", cells[15] or b""
    assert payload[:1] == metadata[:1] == b"\x01"
    fields = EventFields(
        cells[2] or b"", (cells[3] or b"").decode(), times[1], *words,  # type: ignore[arg-type]
        struct.unpack(">i", cells[11] or b"")[0], (cells[12] or b"").decode(), cells[13] or b"",
        payload[1:], metadata[1:],
    )  # fmt: skip
    return _Row(struct.unpack(">q", cells[0] or b"")[0], times[0], fields)


@given(st.lists(_fields, max_size=4), st.integers(1, 2**47), st.integers(0, 4_000_000_000_000_000))
def test_rows_survive_the_copy_form(records: list[EventFields], first: int, stamp: int) -> None:
    tails = [cells for *_, cells in map(row_of, records)]
    data = HEADER + copy_chunk(tails, range(first, first + len(tails)), stamp) + TRAILER
    assert _parse(data) == [_Row(first + n, stamp, fields) for n, fields in enumerate(records)]


def test_a_batch_keeps_its_arrays_in_step() -> None:
    made = Batch(batch(_CLAIM, []).parts)
    for offset, fields in enumerate((event("a"), event("b", tenant_id="x"))):
        made.add(0, offset, fields)
    assert made.keys == [("default", "a"), ("x", "b")]
    assert made.origins == [(0, 0), (0, 1)]
    assert made.nbytes == sum(map(len, made.rows))
    assert len(made) == len(made.hashes) == len(made.event_ids) == 2

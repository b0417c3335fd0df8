"""Lines of the file store: what the index reads of one, and that no damage passes."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_schemas import Event
from penstock_schemas.fields import EventFields
from penstock_store.file import _lines
from penstock_store.file._lines import CorruptLine, encode_line, head, index_row

_NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
_AWKWARD = st.sampled_from([',"payload":', '"', "\\", '\\",', "ü", "a", ",", "{", "}", "\n", " "])
_IDS = st.lists(_AWKWARD, min_size=1, max_size=6).map("".join)


def _line(event: Event, left: int = 0) -> bytes:
    return encode_line(EventFields.of(event), 7, _NOW, left)


@given(_IDS, _IDS, st.none() | _IDS, st.dictionaries(_IDS, _IDS, max_size=3), st.integers(0, 10_000))
def test_the_part_before_the_payload_says_all_that_the_index_keeps(
    entity: str, key: str, actor: str | None, payload: dict[str, str], left: int
) -> None:
    event = Event(
        event_type="t", entity_id=entity, idempotency_key=key, actor_id=actor, payload={"payload": payload}
    )
    line = _line(event, left)
    whole, part = orjson.loads(line), head(line)
    assert part == {name: value for name, value in whole.items() if name in part}
    assert set(whole) - set(part) == {"payload", "metadata", "crc32"}
    assert part["left"] == left
    assert index_row(part, 3, len(line)) == index_row(whole, 3, len(line))


def test_a_changed_byte_anywhere_is_found_by_the_index_too() -> None:
    line = _line(Event(event_type="t", entity_id="e", payload={"n": [1, 2], "text": "some"}))
    for at in range(len(line)):
        for bit in range(8):
            changed = bytearray(line)
            changed[at] ^= 1 << bit
            with pytest.raises(CorruptLine):
                head(bytes(changed))
    for cut in range(len(line)):
        with pytest.raises(CorruptLine):
            head(line[:cut])


def test_the_index_does_not_parse_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It did: of events of 4 KB that was most of the work."""
    parsed: list[int] = []
    loads = orjson.loads
    monkeypatch.setattr(_lines.orjson, "loads", lambda text: (parsed.append(len(text)), loads(text))[1])
    small, big = (Event(event_type="t", entity_id="e", payload={"x": "y" * size}) for size in (1, 9_000))
    for event in (small, big):
        assert index_row(head(_line(event)), 0, 0)[2] == "t"
    assert parsed[0] == parsed[1]

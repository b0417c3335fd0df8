"""However a payload is written: its event carries what the model's own dump says and readers will read."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from functools import cached_property
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    ValidationError,
    field_serializer,
    model_serializer,
)

from penstock_schemas import EventPayload, InvalidEvent
from penstock_schemas._text import canonical_json
from penstock_schemas._typed_payload import payload_writer
from penstock_schemas.derive import payload_form

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
CET = timezone(timedelta(hours=1))


class Colour(Enum):
    RED = "RED"
    FAR = "far"


class Floor(IntEnum):
    GROUND = 0


class Text(str):
    __slots__ = ()


class Address(BaseModel):
    city: str


class Flat(EventPayload, event_type="flat"):
    text: str
    whole: int
    real: float | None
    flag: bool
    raw: bytes
    moment: AwareDatetime | None
    day: date
    clock: time
    ident: UUID
    money: Annotated[Decimal, Field(max_digits=9, decimal_places=2)] | None
    exact: Decimal
    colour: Colour | None
    floor: Floor
    mode: Literal["in", "out"]
    many: list[int | str | None]
    rates: dict[str, list[float]]


class Whole(EventPayload, event_type="whole"):
    text: str
    whole: int | None


class Nested(EventPayload, event_type="nested"):
    home: Address
    away: list[Address]


class Cached(Whole):
    @cached_property
    def length(self) -> int:
        return len(self.text)


class Loose(Whole):
    model_config = ConfigDict(extra="allow")


class Hidden(Whole):
    text: str = Field(exclude=True, default="")


class FieldsOwn(Whole):
    @field_serializer("text")
    def _louder(self, value: str) -> str:
        return value.upper()


class ModelsOwn(Whole):
    @model_serializer(mode="wrap")
    def _changed(self, dump: Any) -> Any:
        return dump(self) | {"whole": 7}


class DumpsOwn(Whole):
    def model_dump(self, **options: Any) -> dict[str, Any]:
        return super().model_dump(**options) | {"whole": 8}


class OfJson(EventPayload, event_type="of.json"):
    text: Json[str]


WHOLES = [Whole, Cached, Loose, Hidden, FieldsOwn, ModelsOwn, DumpsOwn]
TEXT = st.text(max_size=5) | st.sampled_from(["a\0", "half \ud800", Text("sub")])
LONG = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([63, 64, 2_047, 2_048, 1 << 48, 1 << 55])
MOMENT = st.datetimes(timezones=st.sampled_from([UTC, CET]))
FLAT = st.fixed_dictionaries({
    "text": TEXT,
    "whole": LONG | st.booleans(),
    "real": st.none() | st.floats() | st.sampled_from([-0.0, 1e16, 1e22, 1e-7]),
    "flag": st.booleans(),
    "raw": st.binary(max_size=5),
    "moment": st.none() | MOMENT,
    "day": st.dates(),
    "clock": st.times(),
    "ident": st.uuids(),
    "money": st.none() | st.decimals(min_value=-9_999, max_value=9_999, places=2),
    "exact": st.decimals(),
    "colour": st.none() | st.sampled_from(Colour),
    "floor": st.just(Floor.GROUND),
    "mode": st.sampled_from(["in", "out"]),
    "many": st.lists(LONG | TEXT | st.none(), max_size=3),
    "rates": st.dictionaries(TEXT, st.lists(st.floats(-9, 9), max_size=2), max_size=2),
})  # fmt: skip


def outcome(kind: type[EventPayload], payload: EventPayload) -> Iterator[Any]:
    """Of the model's own dump, and of the writer."""
    for write in (lambda: payload_form(kind).write(payload.model_dump(round_trip=True)),
                  lambda: payload_writer(kind)(payload)):  # fmt: skip
        try:
            encoded, form, *text = write()
        except InvalidEvent as error:
            yield error.field, error.said
            continue
        yield encoded, repr(form)
        assert repr(payload_form(kind).to_json(encoded)) == repr(form)
        if text and text[0] is not None:
            assert text[0] == canonical_json(form)


@given(FLAT, st.sampled_from([None, "text", "whole", "many", "colour", "moment"]), st.data())
def test_a_payload_is_written_as_its_dump(fields: dict[str, Any], spoiled: str | None, data: Any) -> None:
    try:
        payload = Flat(**fields)
    except ValidationError:  # half of a surrogate pair, a decimal that is not finite
        payload = Flat.model_construct(**fields)
    if spoiled:
        other = data.draw(
            st.sampled_from([None, b"x", 2**63, datetime(2026, 1, 1, tzinfo=CET), {"a": 1}, "x"])
        )
        payload = payload.model_copy(update={spoiled: other})
    expected, found = outcome(Flat, payload)
    assert found == expected


@pytest.mark.parametrize("kind", WHOLES)
@given(st.text(max_size=3), st.none() | LONG, st.booleans(), st.booleans())
def test_ways_of_its_own_to_be_dumped(
    kind: type[Whole], text: str, whole: int | None, more: bool, left_out: bool
) -> None:
    given = {"text": text} if left_out else {"text": text, "whole": whole}
    payload = kind.model_construct(**given, **({"more": 1} if more else {}))
    if isinstance(payload, Cached):
        assert payload.length == len(text)
    expected, found = outcome(kind, payload)
    assert found == expected


@pytest.mark.parametrize(
    "payload",
    [Nested(home=Address(city="Kiel"), away=[Address(city="Oslo")]), OfJson.model_validate({"text": '"x"'})],
    ids=["nested", "json"],
)
def test_values_that_a_dump_changes(payload: EventPayload) -> None:
    expected, found = outcome(type(payload), payload)
    assert found == expected

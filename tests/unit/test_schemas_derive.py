"""Schemas derived from payload models. fastavro stands for the foreign reader."""

import io
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import fastavro
import pytest
from pydantic import AwareDatetime, BaseModel, Field, NaiveDatetime

from penstock_schemas import Event, EventPayload, InvalidEvent
from penstock_schemas.decoder import Decoder
from penstock_schemas.derive import payload_schema, typed_schema
from penstock_schemas.encoder import EventEncoder
from penstock_schemas.errors import CannotDeriveSchema
from penstock_schemas.registry import InMemoryRegistry

ID = UUID("01932f6e-7b00-7000-8000-000000000001")


class Service(Enum):
    STANDARD = "STANDARD"
    EXPRESS = "EXPRESS"


class Zone(Enum):
    FAR_NORTH = "far north"


class Floor(IntEnum):
    GROUND = 0
    FIRST = 1


class Address(BaseModel):
    city: str
    postcode: str | None = None


class Card(BaseModel):
    kind: Literal["card"]
    digits: str


class Account(BaseModel):
    kind: Literal["account"]
    iban: str


class Everything(EventPayload, event_type="parcel.everything", version=4, avro_namespace="parcels.v4"):
    text: str = "none"
    whole: int = 0
    real: float
    flag: bool = False
    raw: bytes
    moment: AwareDatetime
    plain_moment: datetime
    local: NaiveDatetime
    day: date
    clock: time
    ident: UUID
    exact: Decimal
    money: Decimal = Field(max_digits=12, decimal_places=2)
    service: Service = Service.EXPRESS
    zone: Zone
    floor: Floor
    mode: Literal["IN", "OUT"]
    level: Literal[1, 2]
    names: list[str] = Field(default_factory=list)
    pair: tuple[int, ...]
    prices: list[Annotated[Decimal, Field(max_digits=5, decimal_places=1)]]
    rates: dict[str, float] = Field(default_factory=dict, description="By currency.")
    home: Address
    away: Address | None = None
    note: str | None = "n/a"
    means: Annotated[Card | Account, Field(discriminator="kind")]
    mixed: list[int | str | None]


VALUES: dict[str, Any] = {
    "real": 0.1,
    "raw": b"\x00\xff\xfe",
    "moment": datetime(2026, 3, 2, 8, 15, 0, 1, tzinfo=UTC),
    "plain_moment": datetime(1900, 1, 1, tzinfo=UTC),
    "local": datetime(2026, 3, 2, 8, 15),  # noqa: DTZ001 - a local time is what is meant
    "day": date(2026, 3, 2),
    "clock": time(23, 59, 59, 999_999),
    "ident": ID,
    "exact": Decimal("1E+5"),
    "money": Decimal("-12.5"),
    "zone": Zone.FAR_NORTH,
    "floor": Floor.FIRST,
    "mode": "OUT",
    "level": 2,
    "pair": (1, -(2**63)),
    "prices": [Decimal("1.5"), Decimal(0)],
    "home": Address(city="Kiel"),
    "means": Account(kind="account", iban="DE02"),
    "mixed": [1, "a", None],
}
JSON_FORM = {
    "text": "none",
    "whole": 0,
    "real": 0.1,
    "flag": False,
    "raw": "AP/+",
    "moment": "2026-03-02T08:15:00.000001Z",
    "plain_moment": "1900-01-01T00:00:00.000000Z",
    "local": "2026-03-02T08:15:00.000000",
    "day": "2026-03-02",
    "clock": "23:59:59.999999",
    "ident": str(ID),
    "exact": "1E+5",
    "money": "-12.50",
    "service": "EXPRESS",
    "zone": "far north",
    "floor": 1,
    "mode": "OUT",
    "level": 2,
    "names": [],
    "pair": [1, -(2**63)],
    "prices": ["1.5", "0.0"],
    "rates": {},
    "home": {"city": "Kiel", "postcode": None},
    "away": None,
    "note": "n/a",
    "means": {"kind": "account", "iban": "DE02"},
    "mixed": [1, "a", None],
}


def encode(event: Event) -> tuple[str, bytes]:
    registry = InMemoryRegistry()
    value = EventEncoder(registry).encode(event, "parcels")
    return registry.schema(int.from_bytes(value[1:5], "big")), value


def test_every_type_goes_there_and_back() -> None:
    event = Event.of(Everything(**VALUES), entity_id="PX-1")
    assert event.payload == JSON_FORM
    schema, value = encode(event)
    decoder = Decoder()
    decoder.add_schema(1, schema)
    decoded = decoder.decode(value)
    assert json.loads(decoded.payload) == JSON_FORM
    assert decoded.content_hash == event.content_hash
    assert (decoded.event_type, decoded.schema_version) == ("parcel.everything", 4)
    assert Everything.model_validate_json(decoded.payload) == Everything(**VALUES)


def test_fastavro_reads_it() -> None:
    schema, value = encode(Event.of(Everything(**VALUES), entity_id="PX-1"))
    record: Any = fastavro.schemaless_reader(
        io.BytesIO(value[5:]), fastavro.parse_schema(json.loads(schema)), None
    )
    payload = record["payload"]
    assert payload["money"] == Decimal("-12.50")
    assert payload["moment"] == VALUES["moment"]
    assert payload["means"] == {"kind": "account", "iban": "DE02"}
    assert payload["prices"] == [Decimal("1.5"), Decimal("0.0")]
    assert (payload["clock"], payload["day"], payload["ident"]) == (VALUES["clock"], VALUES["day"], ID)


def test_schema() -> None:
    derived = {field["name"]: field for field in json.loads(payload_schema(Everything))["fields"]}
    assert derived["text"] == {"name": "text", "type": "string", "default": "none"}
    assert derived["money"]["type"] == {
        "type": "bytes",
        "logicalType": "decimal",
        "precision": 12,
        "scale": 2,
    }
    assert derived["exact"]["type"] == derived["zone"]["type"] == "string"
    assert derived["service"]["default"] == "EXPRESS"
    assert derived["service"]["type"]["symbols"] == ["STANDARD", "EXPRESS"]
    assert derived["mode"]["type"]["name"] == "parcels.v4.Everything_mode"
    assert derived["away"] == {"name": "away", "type": ["null", "parcels.v4.Address"], "default": None}
    assert derived["note"] == {"name": "note", "type": ["string", "null"], "default": "n/a"}
    assert derived["rates"]["doc"] == "By currency."
    assert derived["names"]["default"] == []
    assert "default" not in derived["real"]


def test_subjects_and_ids() -> None:
    class Calls(InMemoryRegistry):
        def __init__(self) -> None:
            super().__init__()
            self.subjects: list[str] = []

        def register(self, subject: str, schema: str) -> int:
            self.subjects.append(subject)
            return super().register(subject, schema)

    registry = Calls()
    encoder = EventEncoder(registry)
    typed = Event.of(Everything(**VALUES), entity_id="PX-1")
    generic = Event(event_type="t", entity_id="e")
    ids = [
        encoder.encode(event, topic)[1:5]
        for topic in ("a", "b")
        for event in (typed, generic, typed, generic)
    ]
    assert registry.subjects == [
        "a-parcels.v4.EverythingEvent",
        "a-value",
        "b-parcels.v4.EverythingEvent",
        "b-value",
    ]
    assert len(set(ids)) == 2
    assert typed_schema(Everything)[0] == "parcels.v4.EverythingEvent"


class Node(BaseModel):
    children: "list[Node]"


class Point(BaseModel):
    x: int


class Size(BaseModel):
    x: int


def _other_address() -> type[BaseModel]:
    class Address(BaseModel):
        street: str

    return Address


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (Any, "Bad.field: .*Any has no Avro form"),
        (object, "object has no Avro form"),
        (set[str], "set.* has no Avro form"),
        (complex, "complex has no Avro form"),
        (dict[int, str], "dict.* has no Avro form"),
        (tuple[int, str], "tuple.* has no Avro form"),
        (Node, "Node.children.*: Node contains itself; flatten it"),
        (int | float, "long, double look alike in JSON"),
        (str | bytes, "string, bytes look alike in JSON"),
        (
            Point | Size,
            "penstock.events.Point, penstock.events.Size look alike in JSON; give each model a Literal",
        ),
        (list[Point | Size], "Bad.field: .*look alike"),
        (tuple[Address, _other_address()], "has no Avro form"),
        (Address | tuple[_other_address(), ...], "two types are called Address; rename one"),
        (Literal["a", 1], "values that are no texts"),
        (Literal[None], "values that are no texts"),
    ],
)
def test_what_cannot_be_derived(annotation: Any, said: str) -> None:
    namespace = {"__annotations__": {"field": annotation}, "__module__": __name__}
    bad = type(EventPayload)("Bad", (EventPayload,), namespace, event_type="bad")
    with pytest.raises(CannotDeriveSchema, match=said):
        payload_schema(bad)


def test_names_are_avro_names() -> None:
    class Größe(EventPayload, event_type="parcel.size"):
        höhe: int

    with pytest.raises(CannotDeriveSchema, match="'Größe' is no Avro name"):
        payload_schema(Größe)


class Loose(EventPayload, event_type="parcel.loose"):
    count: int = 0
    when: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    price: Decimal = Field(default=Decimal(0), max_digits=4, decimal_places=1)
    real: float = 0.0
    text: str = ""


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"count": 2**63}, "count", "does not fit into 64 bits; declare it as a decimal"),
        ({"when": datetime(2026, 1, 1)}, "when", "say its time zone"),  # noqa: DTZ001 - the fault under test
        ({"real": float("nan")}, "real", "is nan, which is not JSON"),
        ({"real": float("inf")}, "real", "is inf, which is not JSON"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        Event.of(Loose(**values), entity_id="PX-1")
    assert caught.value.field == field
    assert said in caught.value.said


def test_a_decimal_is_refused_and_not_rounded() -> None:
    payload = Loose.model_construct(count=0, when=VALUES["moment"], price=Decimal("1.25"), real=0.0, text="")
    with pytest.raises(
        InvalidEvent, match=r"price: is 1\.25, more precise than the schema's 1 decimal places"
    ):
        Event.of(payload, entity_id="PX-1")
    with pytest.raises(InvalidEvent, match="price: is NaN, which is not a finite number"):
        Event.of(payload.model_copy(update={"price": Decimal("NaN")}), entity_id="PX-1")


def test_a_default_that_avro_cannot_hold_is_left_out() -> None:
    fields = {field["name"]: field for field in json.loads(payload_schema(Loose))["fields"]}
    assert [name for name in fields if "default" in fields[name]] == ["count", "real", "text"]

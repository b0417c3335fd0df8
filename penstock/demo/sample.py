"""The sample that ships with Penstock: three weeks of a small parcel service that does not exist.

Made when it is read, always the same: every random choice comes from one seed, every time from one start.
Among the good events are scans that were sent twice, scan numbers used twice for different things, and
records that are no events, as real topics hold them; so that the demo has something to show for each outcome.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random

from pydantic import JsonValue

from penstock_schemas import Event

__all__ = ["PARCELS", "Poison", "poison_records", "sample_events"]

PARCELS = 240
_SEED = 20260302
_START = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
_SPREAD = timedelta(days=18)
_REPEATED = 0.012  # share of scans that a scanner sends again after a dropped connection
_REUSED = 2  # scan numbers that a terminal uses a second time for another scan

_HUBS = ("Northgate", "Riverside", "Airfield", "Harbour", "Hilltop")
_CUSTOMERS = ("A. Lind", "B. Okafor", "C. Moreau", "D. Gül", "E. Novák", "F. Ito", "G. Santos", "H. O'Neill")
_SHOPS = ("Nordlicht Bücher", "Blue Door Tea", "Ferro Tools", "Casa Verde", "Radio Lux")
_SERVICES = ("STANDARD", "EXPRESS", "FREIGHT")
_STREETS = ("Mill Lane", "Kaistraße", "Rue des Lilas", "Harbour Road", "Šafaříkova")


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that is no event: it belongs into the dead-letter topic. `why` is for the person who looks."""

    key: bytes
    value: bytes
    why: str


@dataclass(frozen=True, slots=True)
class _Step:
    event_type: str
    payload: dict[str, JsonValue]
    actor: tuple[str, str] | None
    hours: float  # since the step before
    version: int = 1


def sample_events() -> Iterator[Event]:
    """About 2,000 events, ordered by time; repeated scans come after the first of their kind."""
    rng = Random(_SEED)  # noqa: S311 - a sample, not a secret
    waiting: list[tuple[datetime, int, Event]] = []
    for number in range(PARCELS):
        for event in _journey(number, rng):
            heappush(waiting, (event.occurred_at, len(waiting), event))
            if rng.random() < _REPEATED:
                again = _changed(event, event_id=_uuid7(event.occurred_at, rng))
                heappush(waiting, (event.occurred_at + timedelta(seconds=40), len(waiting), again))
    reused = 0
    while waiting:
        event = heappop(waiting)[2]
        yield event
        if event.event_type == "parcel.scanned" and reused < _REUSED and rng.random() < 0.02:
            reused += 1
            yield _other_scan(event, rng)


def poison_records(good: bytes) -> list[Poison]:
    """What a topic collects in years: `good` is a well encoded record, parts of which are used."""
    return [
        Poison(
            b"PX-00017", b'{"parcel":"PX-00017","status":"lost?"}', "plain JSON without the schema's frame"
        ),
        Poison(b"PX-00042", good[: len(good) // 2], "a record cut in half"),
        Poison(b"PX-00099", good + b"\x00\x00\x00", "a record with bytes after its end"),
        Poison(
            b"PX-00123", b"\x00" + (2**31 - 1).to_bytes(4) + good[5:], "a schema id that no registry gave out"
        ),
        Poison(b"PX-00200", b"\x00\x00", "two bytes"),
    ]


def _journey(number: int, rng: Random) -> Iterator[Event]:
    parcel = f"PX-{number + 1:05d}"
    at = _START + _SPREAD * rng.random()
    previous: uuid.UUID | None = None
    for index, step in enumerate(_steps(rng)):
        at += timedelta(hours=step.hours)
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        event = Event(
            event_type=step.event_type,
            entity_id=parcel,
            payload=_stamped(step.payload, at),
            event_id=_uuid7(at, rng),
            occurred_at=at,
            actor_type=step.actor[0] if step.actor else None,
            actor_id=step.actor[1] if step.actor else None,
            correlation_id=f"order-{1000 + number // 2}",  # two parcels to an order
            causation_id=str(previous) if previous else None,
            idempotency_key=f"{parcel}/{index}",
            schema_version=step.version,
            metadata={"tags": ["sample"]},
        )
        previous = event.event_id
        yield event


def _steps(rng: Random) -> Iterator[_Step]:
    customer, shop = _pick(_CUSTOMERS, rng), _pick(_SHOPS, rng)
    courier = ("courier", f"courier-{1 + int(rng.random() * 12):02d}")
    yield _Step("parcel.registered", _registered(customer, shop, rng), ("shop", shop), 0, version=2)
    if rng.random() < 0.04:
        yield _Step("parcel.cancelled", {"reason": "changed mind"}, ("customer", customer), 1 + rng.random())
        return
    amount = f"{4 + int(rng.random() * 900) / 100:.2f}"
    card: dict[str, JsonValue] = {"kind": "card", "last_digits": f"{int(rng.random() * 10_000):04d}"}
    yield _Step("parcel.charged", {"amount": amount, "means": card}, ("shop", shop), 0.1)
    yield _Step("parcel.collected", _collected(rng), courier, 2 + 6 * rng.random())
    first = int(rng.random() * len(_HUBS))
    for hop in range(2 + int(rng.random() * 1.5)):
        hub = _HUBS[(first + hop) % len(_HUBS)]
        yield _Step("parcel.scanned", {"hub": hub, "direction": "in"}, None, 3 + 5 * rng.random())
        yield _Step("parcel.scanned", {"hub": hub, "direction": "out"}, None, 0.5 + 3 * rng.random())
    if rng.random() < 0.06:
        yield _Step("parcel.customs_held", {"reason": "value not stated"}, ("officer", "customs-3"), 2)
        yield _Step(
            "parcel.customs_cleared", {"fee": "4.50"}, ("officer", "customs-3"), 20 + 9 * rng.random()
        )
    yield from _delivery(rng, courier, customer)


def _delivery(rng: Random, courier: tuple[str, str], customer: str) -> Iterator[_Step]:
    for attempt in (1, 2):
        yield _Step("parcel.out_for_delivery", {"attempt": attempt}, courier, 6 + 8 * rng.random())
        if rng.random() < 0.86:
            delivered: dict[str, JsonValue] = {
                "recipient": customer,
                "signature": None,
                "attempts": attempt,
                "neighbour": rng.random() < 0.1,
                "sensors": {},
            }
            yield _Step("parcel.delivered", delivered, courier, 1 + 5 * rng.random(), version=2)
            return
        yield _Step("parcel.delivery_failed", {"reason": "ABSENT", "next_attempt": None}, courier, 4)
    yield _Step("parcel.returned", {"to": "sender"}, courier, 30)


def _registered(customer: str, shop: str, rng: Random) -> dict[str, JsonValue]:
    address: dict[str, JsonValue] = {
        "street": f"{_pick(_STREETS, rng)} {1 + int(rng.random() * 80)}",
        "postcode": f"{10_000 + int(rng.random() * 89_999)}",
        "city": f"{_pick(_HUBS, rng)} City",
        "country": "DE",
    }
    value = f"{20 + int(rng.random() * 30_000) / 100:.2f}" if rng.random() < 0.5 else None
    return {
        "sender": shop,
        "destination": address,
        "weight_grams": 200 + int(14_000 * rng.random() ** 3),
        "service": _pick(_SERVICES, rng),
        "declared_value": value,
        "labels": [f"for {customer}"],
    }


def _collected(rng: Random) -> dict[str, JsonValue]:
    return {"depot": _pick(_HUBS, rng), "vehicle": None, "collected_at": None, "position": None}


def _stamped(payload: dict[str, JsonValue], at: datetime) -> dict[str, JsonValue]:
    if "collected_at" not in payload:
        return payload
    return {**payload, "collected_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def _pick(choices: tuple[str, ...], rng: Random) -> str:
    return choices[int(rng.random() * len(choices))]


def _other_scan(event: Event, rng: Random) -> Event:
    payload = {**event.payload, "hub": "Lost and Found"}
    return _changed(event, event_id=_uuid7(event.occurred_at, rng), payload=payload)


def _changed(event: Event, **fields: object) -> Event:
    return Event.model_validate(
        {**event.model_dump(), **fields}
    )  # a copy would keep what was computed before


def _uuid7(at: datetime, rng: Random) -> uuid.UUID:
    """RFC 9562, section 5.7: 48 bits of milliseconds, version, variant, the rest drawn."""
    milliseconds = int(at.timestamp() * 1000)
    drawn = rng.getrandbits(74)
    high, low = drawn >> 62, drawn & ((1 << 62) - 1)
    return uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (high << 64) | (0b10 << 62) | low)

"""What it costs to decode an event, beside fastavro: `python -m benchmarks.decode [FILE]`.

FILE holds CloudEvents, one JSON object a line (plain or .gz); without one the project's own events are made
up. Figures are CPU time of one thread, the best of five rounds.
"""

import gzip
import io
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import fastavro
import orjson

from penstock_schemas import Event
from penstock_schemas.cloudevents import event_from_cloudevent
from penstock_schemas.decoder import Decoder
from penstock_schemas.encoder import EventEncoder
from penstock_schemas.envelope import GENERIC_SCHEMA
from penstock_schemas.registry import InMemoryRegistry

EVENTS = 50_000
ROUNDS = 5


def events(path: Path | None) -> list[Event]:
    if path is None:
        return [
            Event(
                event_type="parcel.collected",
                entity_id=f"PX-{number % 5_000}",
                actor_type="driver",
                actor_id=f"d-{number % 70}",
                payload={"depot": "KI-2", "position": {"latitude": 54.3233, "longitude": 10.1228}},
            )
            for number in range(EVENTS)
        ]
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    return [event_from_cloudevent(orjson.loads(line)) for line in lines[:EVENTS]]


def microseconds(work: Callable[[bytes], object], values: Iterable[bytes]) -> float:
    """CPU time per value, in microseconds, best of the rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start, count = time.process_time(), 0
        for count, value in enumerate(values, 1):  # noqa: B007 - counted on the way
            work(value)
        best = min(best, (time.process_time() - start) / count * 1e6)
    return best


def main() -> None:
    made = events(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    registry = InMemoryRegistry()
    encoder, decoder = EventEncoder(registry), Decoder()
    values = [encoder.encode(event, "bench") for event in made]
    decoder.add_schema(1, registry.schema(1))
    schema = json.loads(GENERIC_SCHEMA)
    stripped = json.loads(GENERIC_SCHEMA)
    for field in stripped["fields"]:
        if isinstance(field["type"], dict):
            field["type"] = field["type"]["type"]
    full, lean = fastavro.parse_schema(schema), fastavro.parse_schema(stripped)
    rows = {
        "decoder: read, validated, JSON checked": decoder.decode,
        "fastavro: read only, logical types stripped": lambda v: fastavro.schemaless_reader(
            io.BytesIO(v[5:]), lean, None
        ),
        "fastavro: read only, logical types on": lambda v: fastavro.schemaless_reader(
            io.BytesIO(v[5:]), full, None
        ),
        "nothing: the loop itself": len,
    }
    print(f"{len(values)} events of {sum(map(len, values)) / len(values):.0f} bytes")
    for name, work in rows.items():
        print(f"{microseconds(work, values):6.2f} µs  {name}")


if __name__ == "__main__":
    main()

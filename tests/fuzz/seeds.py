"""Writes the corpus's seeds: for each schema a record that is an event. `python -m fuzz.seeds`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro

from fuzz.targets import SCHEMA_TEXT, SCHEMAS, VALUE, Typed
from penstock_schemas import Event
from penstock_schemas.encoder import encode_as

CORPUS = Path(__file__).with_name("corpus")
_ID = "01932f6e-7b00-7000-8000-000000000001"
_EVENTS: dict[str, dict[str, Any]] = {
    "plain": {"payload": {"n": 1}},
    "full": {
        "payload": {"text": "ünï \\u0000 \u2028", "big": 2**70, "list": [1.5, None, True, {"a": []}]},
        "actor_type": "user", "actor_id": "a", "correlation_id": "c", "causation_id": "d",
        "idempotency_key": "k" * 70, "metadata": {"tags": ["x"]}, "tenant_id": "t",
    },
}  # fmt: skip


def _write(name: str, kind: int, data: bytes) -> None:
    (CORPUS / name).write_bytes(bytes([kind]) + data)


def _foreign(kind: int, payload: Any, **more: Any) -> bytes:
    out = io.BytesIO()
    record = {"payload": payload, "occurred_at": 1, "event_id": _ID, "entity_id": "e", "event_type": "made"}
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(SCHEMAS[kind])), record | more)
    return out.getvalue()


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    for name, fields in _EVENTS.items():
        event = Event(
            event_type="fuzz",
            entity_id="entity",
            event_id=_ID,
            occurred_at="2026-01-02T03:04:05.6Z",
            **fields,
        )
        for kind in (0, 2):
            _write(f"generic-{kind}-{name}", kind, encode_as(event, None))
        _write(f"value-{name}", VALUE, b"\0\0\0\0\0" + encode_as(event, None))
    payload = Typed(text="t", number=-3, share=0.5, more={"a": [1, 2]}, maybe="m")
    typed = Event.of(payload, entity_id="e", event_id=_ID, occurred_at="2026-01-02T03:04:05Z")
    _write("typed", 1, encode_as(typed, typed.encoded_payload))
    _write("foreign-text", 3, _foreign(3, '{"a": 1}', extra=[0.5, 1.0]))
    body = {
        "money": b"\x01\x02", "raw": b"abc", "either": [0.25], "many": {"k": [1, True]}, "day": 20_000,
        "deep": [{"b": b"\xff"}],
    }  # fmt: skip
    _write("foreign-nested", 4, _foreign(4, body))
    for number, schema in enumerate(SCHEMAS):
        _write(f"schema-{number}", SCHEMA_TEXT, schema.encode())
    _write("schema-recursive", SCHEMA_TEXT, json.dumps(_recursive()).encode())
    _write("schema-zero-width", SCHEMA_TEXT, SCHEMAS[3].replace('"float"', '"null"').encode())


def _recursive() -> Any:
    schema = json.loads(SCHEMAS[3])
    schema["fields"].append({"name": "again", "type": ["null", "com.example.Fact"]})
    return schema


if __name__ == "__main__":
    main()

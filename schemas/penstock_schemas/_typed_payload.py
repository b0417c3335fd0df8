"""From a typed payload to what its event carries of it."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias

from pydantic import BaseModel, JsonValue

from penstock_schemas._text import may_hold_nul
from penstock_schemas.derive import payload_form
from penstock_schemas.errors import InvalidEvent
from penstock_schemas.payload import EventPayload

__all__ = ["Written", "payload_writer"]


Written: TypeAlias = tuple[bytes, dict[str, JsonValue], bytes | None]
"""A payload: its Avro record, its JSON form, the form's canonical text; None where that may hold a NUL, which
validation has the words for.
"""


@cache
def payload_writer(kind: type[EventPayload]) -> Callable[[EventPayload], Written]:
    """What writes payloads of a model. It raises `InvalidEvent`; this one, `CannotDeriveSchema`."""
    codec = payload_form(kind)
    write_form: Callable[[Any], tuple[bytes, Any]] = codec.write  # a record's form is a dict

    def text_of(form: dict[str, JsonValue]) -> bytes | None:
        try:
            text = codec.text(form)
        except ValueError:
            return None
        return None if may_hold_nul(text) else text

    def write_dump(payload: EventPayload) -> Written:
        encoded, form = write_form(payload.model_dump(round_trip=True))
        return encoded, form, text_of(form)

    def write_fields(payload: EventPayload) -> Written:
        try:
            encoded, form = write_form(payload.__dict__)
        except InvalidEvent:  # a fault, or a cached property beside the fields: the model's own dump tells
            return write_dump(payload)
        return encoded, form, text_of(form)

    return write_fields if _is_plain(kind) else write_dump


def _is_plain(kind: type[EventPayload]) -> bool:
    """Whether an instance's dump is what its fields hold, so that there is no need to make one."""
    if kind.model_dump is not BaseModel.model_dump or kind.model_config.get("extra") == "allow":
        return False
    nodes = list(_nodes(kind.__pydantic_core_schema__))
    kinds = [node.get("type") for node in nodes]
    own_ways = any(str(key).startswith("serialization") for node in nodes for key in node)
    return not own_ways and kinds.count("model") == 1 and "json" not in kinds


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        yield schema
        schema = schema.values()
    elif not isinstance(schema, list | tuple):
        return
    for part in schema:
        yield from _nodes(part)

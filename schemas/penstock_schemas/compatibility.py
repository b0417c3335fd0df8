"""Whether readers of one schema version understand data of another, by Apache Avro's own checker."""

import json
from enum import StrEnum
from types import SimpleNamespace
from typing import Any, cast

import avro.schema
from avro.compatibility import (
    ReaderWriterCompatibilityChecker,
    SchemaCompatibilityResult,
    SchemaCompatibilityType,
)
from avro.errors import AvroException

from penstock_schemas.errors import UnsupportedSchema
from penstock_schemas.limits import check_schema_text

__all__ = ["Compatibility", "check_compatibility"]


class Compatibility(StrEnum):
    """The levels of Confluent's registry.

    BACKWARD: new readers understand old data; FORWARD: old readers, new data; FULL: both.

    The plain ones look at the latest version, the transitive ones at all.
    """

    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"
    NONE = "NONE"


def check_compatibility(new: str, old: list[str], level: Compatibility | str) -> list[str]:
    """What makes `new` incompatible with the versions in `old` (oldest first); empty where nothing does.

    Each problem says who cannot read whom, and where: `new reads version 3: /payload/amount: type mismatch:
    …`. Raises `UnsupportedSchema` for a text that is not an Avro schema, ValueError for an unknown level.
    """
    level = Compatibility(level)
    reader = _parse(new)
    if level is Compatibility.NONE or not old:
        return []
    numbered = list(enumerate(old, 1)) if level.endswith("_TRANSITIVE") else [(len(old), old[-1])]
    problems: list[str] = []
    for version, text in numbered:
        earlier = _parse(text)
        if not level.startswith("FORWARD"):
            problems += [f"new reads version {version}: {problem}" for problem in _problems(reader, earlier)]
        if not level.startswith("BACKWARD"):
            problems += [f"version {version} reads new: {problem}" for problem in _problems(earlier, reader)]
    return problems


def _parse(text: str) -> avro.schema.Schema:
    check_schema_text(text)
    try:
        # Apache's parser warns of logical types that it does not know; compatibility does not depend on them.
        return avro.schema.parse(json.dumps(_without_logical(json.loads(text))))
    except (AvroException, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UnsupportedSchema(f"not an Avro schema: {error}") from None


def _without_logical(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical(item) for item in schema]
    if isinstance(schema, dict):
        return {
            key: value if key == "default" else _without_logical(value)
            for key, value in schema.items()
            if key != "logicalType"
        }
    return schema


def _problems(reader: avro.schema.Schema, writer: avro.schema.Schema) -> list[str]:
    result = _Checker().get_compatibility(reader, writer)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    return sorted(result.messages)


class _Checker(ReaderWriterCompatibilityChecker):
    """Apache's checker loses which message belongs to which place: here each gets its place at once.

    Places are paths of field names, not of positions in the schema's text.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._place: list[str] = []

    def get_compatibility(
        self, reader: Any, writer: Any, reference_token: str = "", location: list[str] | None = None
    ) -> SchemaCompatibilityResult:
        # Inside unions Apache's code starts again from the root: go on from where we are.
        place = self._place if location is None else location
        return super().get_compatibility(reader, writer, reference_token, place)

    def calculate_compatibility(
        self, reader: Any, writer: Any, location: list[str]
    ) -> SchemaCompatibilityResult:
        before, self._place = self._place, location
        try:
            return _placed(super().calculate_compatibility(reader, writer, location), location)
        finally:
            self._place = before

    def check_reader_writer_record_fields(
        self, reader: Any, writer: Any, location: list[str]
    ) -> SchemaCompatibilityResult:
        merged = SchemaCompatibilityResult(SchemaCompatibilityType.compatible)
        for field in reader.fields:
            here = [*location, field.name]
            alone = cast("avro.schema.RecordSchema", SimpleNamespace(fields=[field]))
            one = _placed(super().check_reader_writer_record_fields(alone, writer, here), here)
            if one.compatibility is SchemaCompatibilityType.incompatible:
                merged.compatibility = one.compatibility
                merged.incompatibilities += one.incompatibilities
                merged.messages |= one.messages
                merged.locations |= one.locations
        return merged


_TOKENS = frozenset({"", "/", "0", "fields", "type"})


def _placed(result: SchemaCompatibilityResult, location: list[str]) -> SchemaCompatibilityResult:
    """The same result, with the place in front of every message that has none yet."""
    if result.compatibility is not SchemaCompatibilityType.incompatible:
        return result
    path = "/" + "/".join(step for step in location if step not in _TOKENS)
    kinds = {kind.value.replace("_", " ") for kind in result.incompatibilities}
    what = f"{kinds.pop()}: " if len(kinds) == 1 else ""
    return SchemaCompatibilityResult(
        compatibility=result.compatibility,
        incompatibilities=list(result.incompatibilities),
        messages={text if text.startswith("/") else f"{path}: {what}{text}" for text in result.messages},
        locations=set(result.locations),
    )

"""The event catalogue: schemas and examples as files, and the check that they agree.

<catalogue>/<event type>/event.toml                     summary, and the compatibility level of its versions
<catalogue>/<event type>/v<n>/schema.avsc               the payload's Avro record
<catalogue>/<event type>/v<n>/examples/valid/*.json     an event each: the fields of `Event`
<catalogue>/<event type>/v<n>/examples/invalid/*.json   {"error": a part of the message, "event": …}
"""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from penstock_schemas.compatibility import Compatibility, check_compatibility
from penstock_schemas.decoder import Decoder
from penstock_schemas.encoder import encode_as
from penstock_schemas.envelope import envelope_schema
from penstock_schemas.errors import CatalogueError, InvalidEvent, SchemasError, UnsupportedSchema
from penstock_schemas.event import Event
from penstock_schemas.json_form import JsonForm

__all__ = ["CatalogueEntry", "Problem", "Report", "check", "load"]

_VERSION = re.compile(r"v([1-9][0-9]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One version of one event type.

    `schema` is the payload's record, `wire_schema` the envelope around it.
    """

    event_type: str
    version: int
    summary: str
    level: Compatibility
    schema: str
    wire_schema: str
    folder: Path

    def encode(self, event: Event) -> bytes:
        """The event under this version's wire schema, without framing.

        Raises `InvalidEvent`, naming the part.
        """
        if (event.event_type, event.schema_version) != (self.event_type, self.version):
            said = f"{event.event_type} version {event.schema_version}"
            raise InvalidEvent(
                "event_type", f"is {said}, but this folder is {self.event_type} version {self.version}"
            )
        try:
            payload = JsonForm(self.schema).to_avro(event.payload)
        except InvalidEvent as error:
            raise InvalidEvent(f"payload.{error.field}", error.said) from None
        return encode_as(event, payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in the catalogue that does not hold. `path` is the file or folder at fault."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `check` looked at and found."""

    event_types: int
    versions: int
    valid: int
    invalid: int
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def load(catalogue: Path) -> list[CatalogueEntry]:
    """Every version of every event type, by type and version.

    Raises `CatalogueError` where the layout is broken.
    """
    folders = sorted(folder for folder in Path(catalogue).iterdir() if folder.is_dir())
    entries = [entry for folder in folders for entry in _load_type(folder)]
    if not entries:
        raise CatalogueError(f"{catalogue} holds no event type; make <event type>/v1/schema.avsc")
    return entries


def check(catalogue: Path) -> Report:
    """Whether valid examples pass, invalid ones fail for their reason, and versions are compatible.

    Raises `CatalogueError` where the layout is broken.
    """
    entries = load(catalogue)
    problems: list[Problem] = []
    readable: list[CatalogueEntry] = []
    valid = invalid = 0
    for entry in entries:
        good, bad = _examples(entry, "valid"), _examples(entry, "invalid")
        valid, invalid = valid + len(good), invalid + len(bad)
        faults = _problems_of_schema(entry)
        if not faults:
            readable.append(entry)
            faults = [*_problems_of_valid(entry, good), *_problems_of_invalid(entry, bad)]
        problems += faults
    problems += _problems_of_versions(readable)
    types = {entry.event_type for entry in entries}
    return Report(
        event_types=len(types), versions=len(entries), valid=valid, invalid=invalid, problems=problems
    )


def _load_type(folder: Path) -> list[CatalogueEntry]:
    about = folder / "event.toml"
    try:
        settings = tomllib.loads(about.read_text())
        level, summary = Compatibility(settings["compatibility"]), str(settings["summary"])
    except (OSError, ValueError, KeyError) as error:
        raise CatalogueError(
            f"{about}: needs summary and compatibility (such as BACKWARD): {error!r}"
        ) from None
    versions: dict[int, Path] = {}
    for path in folder.iterdir():
        match = _VERSION.fullmatch(path.name)
        if match:
            versions[int(match[1])] = path
        elif path.is_dir():
            raise CatalogueError(f"{path}: a version's folder is called v1, v2, …")
    if sorted(versions) != list(range(1, len(versions) + 1)):
        raise CatalogueError(f"{folder}: has versions {sorted(versions)}; they count from 1 without a gap")
    return [
        _load_version(folder.name, number, versions[number], level, summary) for number in sorted(versions)
    ]


def _load_version(
    event_type: str, version: int, folder: Path, level: Compatibility, summary: str
) -> CatalogueEntry:
    path = folder / "schema.avsc"
    try:
        schema = json.loads(path.read_text())
        name = f"{schema['namespace']}.{schema['name']}Event"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogueError(f"{path}: has to be an Avro record with name and namespace: {error!r}") from None
    return CatalogueEntry(
        event_type=event_type,
        version=version,
        summary=summary,
        level=level,
        schema=json.dumps(schema),
        wire_schema=json.dumps(envelope_schema(name, schema, summary)),
        folder=folder,
    )


def _examples(entry: CatalogueEntry, kind: str) -> list[Path]:
    return sorted((entry.folder / "examples" / kind).glob("*.json"))


def _problems_of_schema(entry: CatalogueEntry) -> list[Problem]:
    try:
        Decoder().add_schema(0, entry.wire_schema)
    except UnsupportedSchema as error:
        return [Problem(path=entry.folder / "schema.avsc", message=str(error))]
    return []


def _problems_of_valid(entry: CatalogueEntry, paths: list[Path]) -> Iterator[Problem]:
    if not paths:
        yield Problem(path=entry.folder, message="has no valid example; write one to examples/valid/")
    decoder = Decoder()
    decoder.add_schema(0, entry.wire_schema)
    for path in paths:
        try:
            event = _event(_read(path))
            decoded = decoder.decode(bytes(5) + entry.encode(event))
        except SchemasError as error:
            yield Problem(path=path, message=f"is refused: {error}")
            continue
        if json.loads(decoded.payload) != event.payload:
            yield Problem(
                path=path, message=f"its payload is not in JSON form; write {decoded.payload.decode()}"
            )


def _problems_of_invalid(entry: CatalogueEntry, paths: list[Path]) -> Iterator[Problem]:
    if not paths:
        yield Problem(path=entry.folder, message="has no invalid example; write one to examples/invalid/")
    for path in paths:
        try:
            example = _read(path)
        except CatalogueError as error:
            yield Problem(path=path, message=str(error))
            continue
        expected = example.get("error") if isinstance(example, dict) else None
        if not isinstance(expected, str) or not expected or "event" not in example:
            yield Problem(path=path, message='has to be {"error": a part of the message, "event": …}')
            continue
        try:
            entry.encode(_event(example["event"]))
        except SchemasError as error:
            if expected not in str(error):
                yield Problem(path=path, message=f"fails with {str(error)!r}, not with {expected!r}")
        else:
            yield Problem(path=path, message=f"passes, and should fail with {expected!r}")


def _problems_of_versions(entries: list[CatalogueEntry]) -> Iterator[Problem]:
    earlier: dict[str, list[str]] = {}
    for entry in entries:
        known = earlier.setdefault(entry.event_type, [])
        for problem in check_compatibility(entry.wire_schema, known, entry.level):
            yield Problem(path=entry.folder / "schema.avsc", message=f"is not {entry.level}: {problem}")
        known.append(entry.wire_schema)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise CatalogueError(f"is not JSON: {error}") from None


def _event(fields: Any) -> Event:
    try:
        return Event.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "event"
        raise InvalidEvent(where, str(first["msg"]).removeprefix("Value error, ")) from None

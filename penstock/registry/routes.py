"""The endpoint's routes: Confluent's Schema Registry REST, version 1, as far as serializers use it."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from penstock.registry import faults
from penstock.registry.levels import problems, problems_with_version, read_level
from penstock.registry.requests import Body, NewSchema, SchemaId, Subject, VersionNumber, flag
from penstock.registry.responses import MEDIA_TYPE, RegistryResponse
from penstock.registry.storage import DEFAULT_LEVEL, GLOBAL, Storage, Version
from penstock_schemas.compatibility import Compatibility

__all__ = ["router"]


def _storage(request: Request) -> Storage:
    storage: Storage = request.app.state.storage
    return storage


Stored = Annotated[Storage, Depends(_storage)]
router = APIRouter(default_response_class=RegistryResponse)


@router.get("/")
async def root() -> Response:
    """Confluent's answer to a client that only wants to know whether someone is there."""
    return RegistryResponse({})


@router.get("/schemas/types")
async def schema_types() -> Response:
    """The types that can be registered."""
    return RegistryResponse(["AVRO"])


@router.get("/schemas/ids/{schema_id}")
async def schema_by_id(schema_id: SchemaId, storage: Stored) -> Response:
    """What a deserializer asks for."""
    return RegistryResponse({"schema": await _text(storage, schema_id)})


@router.get("/schemas/ids/{schema_id}/schema")
async def bare_schema_by_id(schema_id: SchemaId, storage: Stored) -> Response:
    """The schema itself, not in an object."""
    return Response(await _text(storage, schema_id), media_type=MEDIA_TYPE)


@router.get("/schemas/ids/{schema_id}/versions")
async def versions_of_schema(schema_id: SchemaId, storage: Stored) -> Response:
    """Where a schema is used."""
    await _text(storage, schema_id)
    uses = await storage.uses(schema_id)
    return RegistryResponse([{"subject": subject, "version": version} for subject, version in uses])


@router.get("/schemas/ids/{schema_id}/subjects")
async def subjects_of_schema(schema_id: SchemaId, storage: Stored) -> Response:
    """The subjects that hold a schema."""
    await _text(storage, schema_id)
    return RegistryResponse(sorted({subject for subject, _ in await storage.uses(schema_id)}))


@router.get("/subjects")
async def subjects(storage: Stored, subjectPrefix: str = "") -> Response:  # noqa: N803  the client's spelling
    """Every subject."""
    return RegistryResponse(await storage.subjects(subjectPrefix))


@router.get("/subjects/{subject}/versions")
async def versions(subject: Subject, storage: Stored) -> Response:
    """A subject's version numbers."""
    found = await storage.versions(subject)
    if not found:
        raise faults.subject_not_found(subject)
    return RegistryResponse(found)


@router.get("/subjects/{subject}/versions/{version}")
async def version(subject: Subject, version: VersionNumber, storage: Stored) -> Response:
    """One version, or `latest`."""
    return RegistryResponse(_as_json(await _version(storage, subject, version)))


@router.get("/subjects/{subject}/versions/{version}/schema")
async def bare_version(subject: Subject, version: VersionNumber, storage: Stored) -> Response:
    """One version's schema itself."""
    return Response((await _version(storage, subject, version)).text, media_type=MEDIA_TYPE)


@router.post("/subjects/{subject}/versions")
async def register(subject: Subject, schema: NewSchema, storage: Stored) -> Response:
    """Make a schema a version of the subject, once; the id is the same wherever the schema is registered."""

    async def judge(level: Compatibility, earlier: Sequence[str]) -> None:
        if found := await asyncio.to_thread(problems, schema.text, earlier, level):
            raise faults.incompatible(subject, found)

    return RegistryResponse({"id": await storage.register(subject, schema, judge)})


@router.post("/subjects/{subject}")
async def look_up(subject: Subject, schema: NewSchema, storage: Stored) -> Response:
    """Which version of the subject a schema is."""
    found = await storage.find(subject, schema)
    if found is None:
        known = await storage.versions(subject)
        raise faults.schema_not_found() if known else faults.subject_not_found(subject)
    return RegistryResponse(_as_json(found))


@router.post("/compatibility/subjects/{subject}/versions/{version}")
async def compatible_with_version(
    subject: Subject, version: VersionNumber, schema: NewSchema, storage: Stored, verbose: str = "false"
) -> Response:
    """Whether a schema goes with one version. It goes with the latest of a subject without any."""
    found = await storage.version(subject, version)
    if found is None and version is None:
        return _verdict([], verbose)
    if found is None:
        raise await _missing(storage, subject, version)
    level = await storage.effective_level(subject)
    against = await asyncio.to_thread(problems_with_version, schema.text, found.version, found.text, level)
    return _verdict(against, verbose)


@router.post("/compatibility/subjects/{subject}/versions")
async def compatible_with_subject(
    subject: Subject, schema: NewSchema, storage: Stored, verbose: str = "false"
) -> Response:
    """Whether a schema could be registered now."""
    level = await storage.effective_level(subject)
    return _verdict(
        await asyncio.to_thread(problems, schema.text, await storage.texts(subject), level), verbose
    )


@router.get("/config")
async def global_level(storage: Stored) -> Response:
    """The level of subjects that have none of their own."""
    return RegistryResponse({"compatibilityLevel": await storage.level(GLOBAL) or DEFAULT_LEVEL})


@router.put("/config")
async def set_global_level(body: Body, storage: Stored) -> Response:
    """Change it."""
    return await _set_level(storage, GLOBAL, body)


@router.get("/config/{subject}")
async def subject_level(
    subject: Subject,
    storage: Stored,
    defaultToGlobal: str = "false",  # noqa: N803
) -> Response:
    """A subject's own level, or, when asked so, the one that holds for it."""
    level = await (storage.effective_level(subject) if flag(defaultToGlobal) else storage.level(subject))
    if level is None:
        raise faults.subject_without_level(subject)
    return RegistryResponse({"compatibilityLevel": level})


@router.put("/config/{subject}")
async def set_subject_level(subject: Subject, body: Body, storage: Stored) -> Response:
    """Set it; the subject need not exist yet."""
    return await _set_level(storage, subject, body)


async def _text(storage: Storage, schema_id: int) -> str:
    text = await storage.text(schema_id)
    if text is None:
        raise faults.schema_not_found(schema_id)
    return text


async def _version(storage: Storage, subject: str, number: int | None) -> Version:
    found = await storage.version(subject, number)
    if found is None:
        raise await _missing(storage, subject, number)
    return found


async def _missing(storage: Storage, subject: str, number: int | None) -> faults.RegistryFault:
    known = await storage.versions(subject)
    return faults.version_not_found(number or "latest") if known else faults.subject_not_found(subject)


def _as_json(found: Version) -> dict[str, str | int]:
    return {"subject": found.subject, "version": found.version, "id": found.schema_id, "schema": found.text}


def _verdict(against: list[str], verbose: str) -> Response:
    answer: dict[str, object] = {"is_compatible": not against}
    return RegistryResponse(answer | {"messages": against} if flag(verbose) else answer)


async def _set_level(storage: Storage, subject: str, body: dict[str, Any]) -> Response:
    level = read_level(body.get("compatibility"))
    await storage.set_level(subject, level)
    return RegistryResponse({"compatibility": level})

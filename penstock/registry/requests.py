"""What comes in: path and body of a request, read within limits, every fault with its Confluent code.

FastAPI's own body parsing is not used: clients send several content types, or none, and want `error_code`s.
"""

import asyncio
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import orjson
from fastapi import Depends, Path, Request

from penstock.registry import faults
from penstock.registry.options import RegistryOptions
from penstock.registry.schema_text import SchemaText, read_schema

__all__ = ["Body", "NewSchema", "SchemaId", "Subject", "VersionNumber", "flag"]

_MAX_INT = 2**31 - 1
_MAX_SUBJECT_BYTES = 1024  # a subject is part of a b-tree's key, whose rows are limited to about 2,700 bytes


async def _body(request: Request) -> dict[str, Any]:
    options: RegistryOptions = request.app.state.options
    try:
        async with asyncio.timeout(options.request_seconds):
            raw = await _read(request, options.max_body_bytes)
    except TimeoutError:
        raise faults.too_slow(options.request_seconds) from None
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise faults.bad_request(f"The request's body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise faults.unprocessable("The request's body must be a JSON object.")
    return body


async def _read(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise faults.too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _subject(subject: Annotated[str, Path()]) -> str:
    """`RawPath` keeps the path encoded, so that a subject may hold a slash."""
    try:
        name = unquote_to_bytes(subject).decode()
    except UnicodeDecodeError:
        raise faults.invalid_subject("it is not UTF-8") from None
    if not name or not name.isprintable():
        raise faults.invalid_subject("it must not be empty or contain control characters")
    if len(name.encode()) > _MAX_SUBJECT_BYTES:
        raise faults.invalid_subject(f"it is longer than {_MAX_SUBJECT_BYTES} bytes")
    return name


def _version(version: Annotated[str, Path()]) -> int | None:
    """None stands for the latest."""
    if version in ("latest", "-1"):
        return None
    number = _decimal(version)
    if number is None:
        raise faults.invalid_version(version[:40])
    return number


def _schema_id(schema_id: Annotated[str, Path()]) -> int:
    number = _decimal(schema_id)
    if number is None:
        raise faults.schema_not_found(schema_id[:40])
    return number


def _decimal(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if 1 <= number <= _MAX_INT else None


Body = Annotated[dict[str, Any], Depends(_body)]
Subject = Annotated[str, Depends(_subject)]
VersionNumber = Annotated[int | None, Depends(_version)]
SchemaId = Annotated[int, Depends(_schema_id)]


async def _new_schema(subject: Subject, body: Body) -> SchemaText:
    """The schema in a body. References and rules change what a schema means: refused, not ignored."""
    kind = body.get("schemaType") or "AVRO"
    if kind != "AVRO":
        raise faults.invalid_schema(f"schema type {str(kind)[:40]!r} is not supported, only AVRO")
    for name in ("references", "metadata", "ruleSet"):
        if body.get(name):
            raise faults.invalid_schema(f"{name} are not supported; send a schema that stands for itself")
    for name in ("id", "version"):
        if body.get(name) not in (None, -1, 0):
            raise faults.no_import_mode(subject)
    text = body.get("schema")
    if not isinstance(text, str):
        raise faults.unprocessable(
            'The request\'s body must hold "schema", a string with an Avro schema in JSON.'
        )
    return await asyncio.to_thread(read_schema, text)


NewSchema = Annotated[SchemaText, Depends(_new_schema)]


def flag(value: str) -> bool:
    """A query parameter as clients spell booleans; anything else is false, as in Java."""
    return value.lower() == "true"

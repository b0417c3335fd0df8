"""Schema registries: the protocol, a client for Confluent's REST, one in memory for tests."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from penstock_schemas.compatibility import Compatibility, check_compatibility
from penstock_schemas.errors import (
    IncompatibleSchema,
    RegistryRefused,
    RegistryUnavailable,
    UnknownSchemaId,
    UnsupportedSchema,
)

__all__ = ["AsyncSchemaSource", "InMemoryRegistry", "Registry", "SchemaRegistry"]


class Registry(Protocol):
    """What encoders and workers need of a registry.

    Every call may block, up to the implementation's deadline.
    """

    def register(self, subject: str, schema: str) -> int:
        """The id of the schema, registered under the subject if it was not.

        Raises `IncompatibleSchema`, `RegistryRefused` or `RegistryUnavailable`.
        """
        ...

    def schema(self, schema_id: int) -> str:
        """The text of a schema.

        Raises `UnknownSchemaId`, `UnsupportedSchema` (not Avro) or `RegistryUnavailable`.
        """
        ...

    def is_compatible(self, subject: str, schema: str) -> bool:
        """Whether the subject would take the schema as its next version; a new subject takes any."""
        ...


class SchemaRegistry:
    """A registry over HTTP, by confluent-kafka's client: Confluent's, Karapace, Apicurio, Redpanda, or ours.

    `timeout` bounds, in seconds, each step of a request (connect, send, receive); no request is repeated
    here, that is the caller's to decide. `config` goes to the client as it is (`basic.auth.user.info`,
    `ssl.ca.location`, …). May be shared by threads; make it after a fork, not before.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, config: Mapping[str, Any] | None = None) -> None:
        self._where = f"the schema registry at {_without_secrets(url)}"
        self._client = SchemaRegistryClient(
            {"max.retries": 0, **(config or {}), "url": url, "timeout": timeout}
        )

    def register(self, subject: str, schema: str) -> int:
        try:
            return int(self._client.register_schema(subject, Schema(schema, "AVRO")))
        except Exception as error:  # see _classify
            self._classify(error, subject)

    def schema(self, schema_id: int) -> str:
        try:
            found = self._client.get_schema(schema_id)
        except SchemaRegistryError as error:
            if error.http_status_code == 404 and _is_registry_code(error.error_code):
                raise UnknownSchemaId(schema_id, self._where) from None
            self._classify(error, f"schema id {schema_id}")
        except Exception as error:  # see _classify
            self._classify(error, f"schema id {schema_id}")
        if found.schema_type not in (None, "AVRO") or found.references:
            what = "uses references" if found.references else f"is {found.schema_type}"
            raise UnsupportedSchema(
                f"schema id {schema_id} {what}; events are read under self-contained Avro schemas"
            )
        return str(found.schema_str)

    def is_compatible(self, subject: str, schema: str) -> bool:
        try:
            return bool(self._client.test_compatibility(subject, Schema(schema, "AVRO")))
        except SchemaRegistryError as error:
            if error.http_status_code == 404 and _is_registry_code(error.error_code):
                return True  # no such subject or version yet
            self._classify(error, subject)
        except Exception as error:  # see _classify
            self._classify(error, subject)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _classify(self, error: Exception, what: str) -> NoReturn:
        """Raise ours.

        Only a registry's own "no" is final; whatever else went wrong, no answer was got, and a later
        one may differ.

        (confluent-kafka-python #1325, #1334: taking a 503 for poison puts good data into the dead-letter
        topic.)
        """
        if isinstance(error, SchemaRegistryError):
            if error.http_status_code == 409:
                raise IncompatibleSchema(what, [str(error.error_message)]) from error
            if error.http_status_code in (400, 404, 413, 422) and _is_registry_code(error.error_code):
                raise RegistryRefused(f"{self._where} refuses {what}: {error}") from error
            raise RegistryUnavailable(f"{self._where} gave no usable answer for {what}: {error}") from error
        raise RegistryUnavailable(
            f"{self._where} did not answer for {what}: {type(error).__name__}: {error}; check that it runs"
            " and the address"
        ) from error


def _is_registry_code(code: object) -> bool:
    """Whether an error code is a registry's (40403, 42201, …) and not a proxy's page or an empty body."""
    return isinstance(code, int) and code >= 40_000


def _without_secrets(url: str) -> str:
    shown = []
    for one in url.split(","):
        parts = urlsplit(one.strip())
        shown.append(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl())
    return ",".join(shown)


class AsyncSchemaSource:
    """A registry as the worker's `SchemaSource`: asked in a thread, given up after `deadline` seconds."""

    def __init__(self, registry: Registry, *, deadline: float = 10.0) -> None:
        self._registry = registry
        self._deadline = deadline

    async def schema(self, schema_id: int) -> str:
        """The text of a schema. Raises as `Registry.schema` does; past the deadline `RegistryUnavailable`."""
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.to_thread(self._registry.schema, schema_id)
        except TimeoutError:
            raise RegistryUnavailable(
                f"the schema registry gave no answer for schema id {schema_id} within {self._deadline:g} s"
            ) from None


class InMemoryRegistry:
    """A registry inside the process, for tests: it checks compatibility as a server does."""

    def __init__(self, *, level: Compatibility = Compatibility.BACKWARD) -> None:
        self._level = level
        self._lock = threading.Lock()
        self._ids: dict[str, int] = {}
        self._subjects: dict[str, list[str]] = {}

    def register(self, subject: str, schema: str) -> int:
        with self._lock:
            versions = self._subjects.setdefault(subject, [])
            if schema not in versions:
                problems = check_compatibility(schema, versions, self._level)
                if problems:
                    raise IncompatibleSchema(subject, problems)
                versions.append(schema)
            return self._ids.setdefault(schema, len(self._ids) + 1)

    def schema(self, schema_id: int) -> str:
        with self._lock:
            for schema, own_id in self._ids.items():
                if own_id == schema_id:
                    return schema
        raise UnknownSchemaId(schema_id, "the registry in memory")

    def is_compatible(self, subject: str, schema: str) -> bool:
        with self._lock:
            return not check_compatibility(schema, self._subjects.get(subject, []), self._level)

"""Schema registries: the protocol, a client for Confluent's REST, one in memory for tests."""

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol

from penstock_schemas.compatibility import Compatibility, check_compatibility
from penstock_schemas.errors import IncompatibleSchema, RegistryUnavailable, UnknownSchemaId

if TYPE_CHECKING:
    from penstock_schemas._registry_client import SchemaRegistry

__all__ = ["AsyncSchemaSource", "InMemoryRegistry", "Registry", "SchemaRegistry"]


def __getattr__(name: str) -> Any:
    """The client over HTTP drags in half a second of imports: only who uses it waits for them."""
    if name == "SchemaRegistry":
        from penstock_schemas._registry_client import SchemaRegistry

        return SchemaRegistry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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

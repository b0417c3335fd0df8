"""The schema registry's client over HTTP. Import it from `penstock_schemas.registry`."""

from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from penstock_schemas.errors import (
    IncompatibleSchema,
    RegistryRefused,
    RegistryUnavailable,
    UnknownSchemaId,
    UnsupportedSchema,
)

__all__ = ["SchemaRegistry"]


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

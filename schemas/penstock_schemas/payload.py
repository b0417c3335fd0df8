"""The base class of typed payloads."""

import re
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["EventPayload"]

_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)


class EventPayload(BaseModel):
    """Base of a typed payload: `class OrderPlaced(EventPayload, event_type="order.placed", version=2): …`.

    The Avro schema of its events is derived from its fields. Raise `version` when they change; the old
    version's schema stays registered, and the change has to be compatible with it. `avro_namespace=` is that
    of the Avro records.
    """

    # bytes are base64 in the JSON form: so that model_validate_json reads a stored payload back
    model_config = ConfigDict(frozen=True, extra="forbid", val_json_bytes="base64", ser_json_bytes="base64")

    event_type: ClassVar[str]
    event_version: ClassVar[int] = 1
    avro_namespace: ClassVar[str] = "penstock.events"

    def __init_subclass__(
        cls,
        *,
        event_type: str | None = None,
        version: int | None = None,
        avro_namespace: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if event_type is not None:
            cls.event_type = event_type
        if version is not None:
            if version < 1:
                raise TypeError(f"{cls.__qualname__}: version is {version}; versions count from 1")
            cls.event_version = version
        if avro_namespace is not None:
            if not _NAMESPACE.fullmatch(avro_namespace):
                raise TypeError(
                    f"{cls.__qualname__}: {avro_namespace!r} is no Avro namespace; write names joined by dots"
                )
            cls.avro_namespace = avro_namespace
        if not getattr(cls, "event_type", None):
            raise TypeError(
                f"{cls.__qualname__}: say its event type: class {cls.__name__}(EventPayload, event_type=...)"
            )

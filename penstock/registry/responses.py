"""What goes out: JSON under the registry's media type."""

from typing import Any

import orjson
from starlette.responses import Response

from penstock.registry.faults import RegistryFault

__all__ = ["MEDIA_TYPE", "RegistryResponse", "fault_response"]

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class RegistryResponse(Response):
    """JSON as Confluent's clients ask for it."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """Compact JSON."""
        return orjson.dumps(content)


def fault_response(error: RegistryFault) -> RegistryResponse:
    """The body that clients turn back into their exceptions."""
    return RegistryResponse({"error_code": error.code, "message": error.message}, status_code=error.status)

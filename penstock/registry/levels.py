"""Whether a schema goes with the versions before it: the level that a client sent, and the verdict. Pure."""

from collections.abc import Sequence

from penstock.registry.faults import invalid_level, invalid_schema
from penstock_schemas.compatibility import Compatibility, check_compatibility
from penstock_schemas.errors import UnsupportedSchema

__all__ = ["problems", "problems_with_version", "read_level"]

_MAX_PROBLEMS = 20  # a message for people; two records without a common field have one a field


def read_level(value: object) -> Compatibility:
    """The level that a client sent. Raises `RegistryFault` 42203."""
    try:
        return Compatibility(value.upper() if isinstance(value, str) else "")
    except ValueError:
        raise invalid_level(", ".join(Compatibility)) from None


def problems(text: str, earlier: Sequence[str], level: Compatibility) -> list[str]:
    """Why `text` does not go with `earlier`, all versions from the first, at `level`; empty where it does."""
    try:
        found = check_compatibility(text, list(earlier), level)
    except UnsupportedSchema as error:
        raise invalid_schema(str(error)) from None
    more = len(found) - _MAX_PROBLEMS
    return found if more <= 0 else [*found[:_MAX_PROBLEMS], f"and {more} more"]


def problems_with_version(text: str, version: int, known: str, level: Compatibility) -> list[str]:
    """Why `text` does not go with version `version`, whose schema is `known`."""
    plain = Compatibility(level.removesuffix("_TRANSITIVE"))  # which looks at the last one only
    return problems(text, [*[""] * (version - 1), known], plain)

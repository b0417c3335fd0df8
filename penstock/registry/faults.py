"""What the registry answers when it cannot do what was asked. Clients act on Confluent's error codes.

Codes: Confluent's Schema Registry API reference. An `error_code` starts with its HTTP status, save where a
line says why.
"""

from penstock.errors import PenstockError

__all__ = [
    "RegistryFault",
    "bad_request",
    "incompatible",
    "invalid_level",
    "invalid_schema",
    "invalid_subject",
    "invalid_version",
    "no_import_mode",
    "schema_not_found",
    "store_away",
    "subject_not_found",
    "subject_without_level",
    "too_large",
    "too_slow",
    "unauthorized",
    "unprocessable",
    "version_not_found",
]


class RegistryFault(PenstockError):
    """An answer other than 2xx: `status` is HTTP's, `code` is Confluent's `error_code`."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def bad_request(message: str) -> RegistryFault:
    """The request is not HTTP or JSON as it should be."""
    return RegistryFault(400, 400, message)


def unauthorized() -> RegistryFault:
    """No credentials, or wrong ones; the answer does not tell which."""
    return RegistryFault(
        401, 401, "The registry asks for a user and a password, and these are missing or wrong."
    )


def subject_not_found(subject: str) -> RegistryFault:
    """40401."""
    return RegistryFault(404, 40401, f"Subject '{subject}' not found.")


def version_not_found(version: int | str) -> RegistryFault:
    """40402."""
    return RegistryFault(404, 40402, f"Version {version} not found.")


def schema_not_found(schema_id: int | str | None = None) -> RegistryFault:
    """40403: by id, or, without one, because the subject holds no such schema."""
    return RegistryFault(
        404, 40403, "Schema not found" if schema_id is None else f"Schema {schema_id} not found"
    )


def subject_without_level(subject: str) -> RegistryFault:
    """40408: the global level applies; clients may ask with `defaultToGlobal=true`."""
    return RegistryFault(
        404, 40408, f"Subject '{subject}' does not have subject-level compatibility configured"
    )


def too_slow(seconds: float) -> RegistryFault:
    """The body did not come."""
    return RegistryFault(408, 408, f"The request's body did not arrive within {seconds:g} s.")


def incompatible(subject: str, problems: list[str]) -> RegistryFault:
    """409: registering it would break readers or writers of the subject."""
    message = (
        f'Schema being registered is incompatible with an earlier schema for subject "{subject}", details: '
    )
    return RegistryFault(409, 409, message + "; ".join(problems))


def too_large(limit: int) -> RegistryFault:
    """The body exceeds the limit."""
    return RegistryFault(413, 41301, f"The request's body is larger than {limit} bytes.")


def unprocessable(message: str) -> RegistryFault:
    """JSON, and not what this endpoint takes."""
    return RegistryFault(422, 422, message)


def invalid_schema(message: str) -> RegistryFault:
    """42201."""
    return RegistryFault(422, 42201, f"Invalid schema: {message}")


def invalid_version(version: str) -> RegistryFault:
    """42202."""
    text = f"The specified version '{version}' is not a valid version id. "
    return RegistryFault(422, 42202, text + 'Allowed values are between [1, 2^31-1] and the string "latest"')


def invalid_level(allowed: str) -> RegistryFault:
    """42203."""
    return RegistryFault(422, 42203, f"Invalid compatibility level. Valid values are {allowed}")


def no_import_mode(subject: str) -> RegistryFault:
    """42205: a client may not choose ids or versions here."""
    return RegistryFault(422, 42205, f"Subject '{subject}' is not in import mode: leave out id and version.")


def invalid_subject(why: str) -> RegistryFault:
    """42208."""
    return RegistryFault(422, 42208, f"The subject is not valid: {why}")


def store_away(message: str) -> RegistryFault:
    """50001, with 503 where Confluent sends 500: clients retry both, and 503 says that this is right."""
    return RegistryFault(503, 50001, message)

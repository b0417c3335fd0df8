"""What the registry can be told; made by the command from the application's settings."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

__all__ = ["RegistryOptions"]


class RegistryOptions(BaseModel):
    """Frozen and validated when made. Sizes are bytes, times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr
    user: str | None = Field(
        default=None, min_length=1, description="demand basic authentication as this user"
    )
    password: SecretStr | None = None
    max_body_bytes: int = Field(
        default=1024 * 1024, ge=1024, description="Confluent's clients send one schema a request"
    )
    max_connections: int = Field(default=4, ge=1, le=50, description="PostgreSQL connections of this process")
    request_seconds: float = Field(
        default=10.0, gt=0, le=120, description="deadline of one request, body and database"
    )
    stop_seconds: float = Field(
        default=5.0, gt=0, le=60, description="grace of running requests after SIGTERM"
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("basic authentication needs both user and password")
        if self.user is not None and ":" in self.user:
            raise ValueError("a user name with a colon cannot be sent by basic authentication")
        return self

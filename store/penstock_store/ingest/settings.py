"""What the sink is told; validated when made."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

from penstock_store.dsn import normalise_dsn

__all__ = ["SinkSettings"]

_Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL")
    return text


class SinkSettings(BaseModel):
    """Frozen; times in seconds unless they are timedeltas."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    dsn: SecretStr
    """PostgreSQL itself or a session-mode pooler: locks and prepared statements belong to a session."""
    group_id: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain)]
    worker_name: Annotated[str, AfterValidator(_plain)] = "penstock-worker"
    dedupe_window: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=36_500))] = timedelta(
        hours=24
    )
    """How far back a repeated key is looked for, at least: the current partition is always looked at as a
    whole.
    """
    connect_timeout: _Seconds = 10.0
    write_timeout: _Seconds = 120.0
    """Of one batch, dead letters included; the connection is ended when it passes."""
    call_timeout: _Seconds = 15.0
    """Of any other call."""
    claim_patience: _Seconds = 1.0
    """How long a claim waits for the previous owner's transaction before it ends that backend."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 4
    """Of one batch, where it deadlocks with another."""
    chunk_rows: Annotated[int, Field(ge=1)] = 2000
    """Rows handed to the server at a time."""

    @field_validator("dsn")
    @classmethod
    def _known_spelling(cls, value: SecretStr) -> SecretStr:
        return SecretStr(normalise_dsn(value.get_secret_value()))

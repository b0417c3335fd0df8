"""`@projection`: what a projection is."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, overload

from pydantic import JsonValue

from penstock_schemas import RecordedEvent
from penstock_store._common import EVERYTHING
from penstock_store.checkpoint_errors import InvalidProjection
from penstock_store.contract import QueryOptions

__all__ = ["PREFIX", "Projection", "TableProjection", "ValueProjection", "projection"]

PREFIX: Final = "projection/"  # of the names of their checkpoints
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,35}")  # with what is added it is an identifier of PostgreSQL
_ROLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}")

Handler = Callable[[Any, RecordedEvent], Awaitable[None]]  # of an asyncpg connection and an event
Setup = Callable[[Any], Awaitable[None]]
Seed = Callable[[Any, JsonValue], Awaitable[None]]
Fold = Callable[[Any, RecordedEvent], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """What both kinds have. Raise `version` when the result of the same events changes, then rebuild."""

    name: str
    options: QueryOptions  # which events; filters only
    version: int

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidProjection(
                f"a projection's name is a small letter and up to 35 more of a-z, 0-9 and _;"
                f" got {self.name!r}"
            )
        if not isinstance(self.version, int) or not 1 <= self.version < 2**31:
            raise InvalidProjection(
                f"the version of {self.name!r} must be a whole number from 1; got {self.version!r}"
            )
        bounds = self.options.after_sequence, self.options.up_to_sequence, self.options.limit
        if any(bound is not None for bound in bounds) or self.options.cursor or self.options.offset:
            raise InvalidProjection(
                f"the options of {self.name!r} may filter, not bound: leave out limit, offset, cursor,"
                " after_sequence and up_to_sequence"
            )

    @property
    def checkpoint(self) -> str:
        """The name under which its position is kept."""
        return PREFIX + self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProjection(Projection):
    """`handle` writes to tables that `setup` made. Name them without a schema: they live in `schema`."""

    handle: Handler
    setup: Setup
    seed: Seed | None = None  # fills them from a snapshot's state
    readers: tuple[str, ...] = ("penstock_reader",)  # roles that may read them

    def __post_init__(self) -> None:
        Projection.__post_init__(self)
        for role in self.readers:
            if not _ROLE.fullmatch(role):
                raise InvalidProjection(f"{role!r} of {self.name!r} cannot be the name of a role")

    @property
    def schema(self) -> str:
        """The schema of PostgreSQL that holds its tables."""
        return f"projection_{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueProjection(Projection):
    """One JSON value, kept with the checkpoint: `store.get_checkpoint(projection.checkpoint).state`."""

    fold: Fold
    initial: JsonValue


@overload
def projection(
    name: str,
    *,
    setup: Setup,
    seed: Seed | None = ...,
    options: QueryOptions = ...,
    version: int = ...,
    readers: tuple[str, ...] = ...,
) -> Callable[[Handler], TableProjection]: ...


@overload
def projection(
    name: str, *, initial: JsonValue, options: QueryOptions = ..., version: int = ...
) -> Callable[[Fold], ValueProjection]: ...


def projection(
    name: str,
    *,
    setup: Setup | None = None,
    seed: Seed | None = None,
    initial: JsonValue = None,
    options: QueryOptions = EVERYTHING,
    version: int = 1,
    readers: tuple[str, ...] = ("penstock_reader",),
) -> Callable[[Handler], TableProjection] | Callable[[Fold], ValueProjection]:
    """Make a projection of the function below it.

    With `setup`, a table projection of `async def handle(connection, event)`: what it writes, and the
    position, are one transaction. Without it a value projection of `def fold(state, event) -> state`, from
    `initial`. Raises `InvalidProjection`.
    """
    if setup is not None:
        made = setup

        def table(handle: Handler) -> TableProjection:
            return TableProjection(
                name=name,
                options=options,
                version=version,
                handle=handle,
                setup=made,
                seed=seed,
                readers=readers,
            )

        return table

    def value(fold: Fold) -> ValueProjection:
        return ValueProjection(name=name, options=options, version=version, fold=fold, initial=initial)

    return value

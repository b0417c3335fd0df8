"""From the file journal to the PostgreSQL one, in one call: what the migration command does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock_store.backends import create_event_store
from penstock_store.moving.comparing import Comparison, compare_stores
from penstock_store.moving.copying import DEFAULT_BATCH, copy_events, plan_copy
from penstock_store.moving.report import CopyPlan, CopyReport, OnProgress
from penstock_store.store_errors import InvalidSettings

__all__ = ["Migration", "migrate_file_to_postgres"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What was done: `plan` alone in a dry run; else `copied`, and `comparison` where it was asked for."""

    plan: CopyPlan | None = None
    copied: CopyReport | None = None
    comparison: Comparison | None = None

    @property
    def verified(self) -> bool:
        """Both stores were compared and all that the files hold is in PostgreSQL."""
        return self.comparison is not None and self.comparison.complete


async def migrate_file_to_postgres(
    directory: str | Path = "events",
    database_url: str | None = None,
    *,
    dry_run: bool = False,
    batch_size: int = DEFAULT_BATCH,
    verify: bool = True,
    skip_corrupted: bool = False,
    on_progress: OnProgress | None = None,
    environ: Mapping[str, str] | None = None,
) -> Migration:
    """Copy the events of a file journal (or file store) to PostgreSQL; call it again after an interruption.

    `database_url`: else DATABASE_URL in `environ` (the process's own where none is given);
    postgresql+asyncpg:// is understood too. The files are only read, and may be written to meanwhile.
    Raises `InvalidSettings` and what `copy_events` raises.
    """
    url = database_url or (os.environ if environ is None else environ).get("DATABASE_URL")
    if not url:
        raise InvalidSettings(
            "the migration needs an address: give database_url or set DATABASE_URL, such as"
            " postgresql://user:password@host:5432/database"
        )
    options: dict[str, Any] = {"skip_corrupted": skip_corrupted}
    old = create_event_store("file", directory=directory, read_only=True)
    new = create_event_store("postgresql", dsn=url)
    async with old, new:
        if dry_run:
            return Migration(plan=await plan_copy(old, new, **options))
        copied = await copy_events(old, new, batch_size=batch_size, on_progress=on_progress, **options)
        comparison = await compare_stores(old, new, up_to=copied.position, **options) if verify else None
        return Migration(copied=copied, comparison=comparison)

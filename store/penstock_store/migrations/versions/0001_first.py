"""Events, partitions, offsets, ingested ranges, high water mark, appends, snapshots, registry.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from penstock_store.migrations._sql import statements

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _run(*names: str) -> None:
    for name in names:
        for statement in statements(name):
            op.execute(text(statement))


def upgrade() -> None:
    _run(
        "0001_roles.sql",
        "0001_tables.sql",
        "0001_prints.sql",
        "0001_partitions.sql",
        "0001_ingest.sql",
        "0001_rare.sql",
        "0001_replay.sql",
        "0001_append.sql",
        "0001_import.sql",
        "0001_checkpoints.sql",
        "0001_registry.sql",
        "0001_grants.sql",
    )


def downgrade() -> None:
    _run("0001_down.sql")

"""The tables of SQL schema `penstock`, declared for `alembic check`.

The migrations are the truth (SQL kept as SQL); a difference between both fails a test. Partitions of `events`
and their indexes are made at run time and are not declared.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

__all__ = ["SCHEMA", "metadata"]

SCHEMA = "penstock"
metadata = MetaData(schema=SCHEMA)

_CLOCK = text("clock_timestamp()")
_TRUE = text("true")
_ZERO = text("0")


def _key(name: str) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=True)


def _time(name: str, *, default: bool = False, nullable: bool = True) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable and not default,
        server_default=_CLOCK if default else None,
    )


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=_ZERO)


Table(
    "events",
    metadata,
    Column("sequence", BigInteger, nullable=False, autoincrement=False),
    _time("recorded_at", nullable=False),
    Column("event_id", Uuid, nullable=False),
    _key("event_type"),
    _time("occurred_at", nullable=False),
    _text("actor_type"),
    _text("actor_id"),
    _key("entity_id"),
    _key("tenant_id"),
    _key("correlation_id"),
    _text("causation_id"),
    Column("schema_version", Integer, nullable=False),
    _key("idempotency_key"),
    Column("content_hash", LargeBinary, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("metadata", JSONB, nullable=False),
)

Table(
    "settings",
    metadata,
    Column("only_row", Boolean, nullable=False, server_default=_TRUE),
    Column("partition_interval", Interval, nullable=False, server_default=text("'1 day'::interval")),
    Column("leaf_indexes", ARRAY(Text), nullable=False, server_default=text("'{full}'::text[]")),
    PrimaryKeyConstraint("only_row", name="settings_pkey"),
)

_partitions = Table(
    "partitions",
    metadata,
    _key("name"),
    _time("lower", nullable=False),
    _time("upper", nullable=False),
    _key("state"),
    Column("indexes", ARRAY(Text), nullable=False),
    _time("created_at", default=True),
    _time("closed_at"),
    _time("sealed_at"),
    _time("dropped_at"),
    Column("rows", BigInteger),
    Column("first_sequence", BigInteger),
    Column("last_sequence", BigInteger),
    _time("first_recorded_at"),
    _time("last_recorded_at"),
    _time("first_occurred_at"),
    _time("last_occurred_at"),
    _text("min_key"),
    _text("max_key"),
    Column("key_blocks", Integer),
    Column("common_tags", ARRAY(Text)),
    Column("payload_probe", BigInteger),
    PrimaryKeyConstraint("name", name="partitions_pkey"),
    UniqueConstraint("lower", name="partitions_lower_key"),
)
Index(
    "partitions_one_current",
    _partitions.c.state,
    unique=True,
    postgresql_where=_partitions.c.state == "current",
)

Table(
    "prints",
    metadata,
    _key("kind"),
    Column("blocks", Integer, nullable=False),
    Column("block", Integer, nullable=False),
    _key("leaf"),
    Column("prints", LargeBinary, nullable=False),
    PrimaryKeyConstraint("kind", "blocks", "block", "leaf", name="prints_pkey"),
)

Table(
    "key_prints",
    metadata,
    _key("leaf"),
    Column("block", Integer, nullable=False),
    Column("prints", LargeBinary, nullable=False),
    PrimaryKeyConstraint("leaf", "block", name="key_prints_pkey"),
)

Table(
    "high_water",
    metadata,
    Column("only_row", Boolean, nullable=False, server_default=_TRUE),
    _count("sequence"),
    _time("published_at", default=True),
    PrimaryKeyConstraint("only_row", name="high_water_pkey"),
)

Table(
    "offsets",
    metadata,
    _key("group_id"),
    _key("cluster_id"),
    _key("topic"),
    Column("partition", Integer, nullable=False),
    _key("topic_id"),
    Column("next_offset", BigInteger),
    Column("leader_epoch", Integer),
    Column("epoch", BigInteger, nullable=False),
    Column("owner_pid", Integer),
    _time("owner_backend_start"),
    Column("owner_name", Text),
    _time("claimed_at", default=True),
    _time("moved_at"),
    Column("attempts", Integer, nullable=False, server_default=_ZERO),
    PrimaryKeyConstraint("group_id", "cluster_id", "topic", "partition", name="offsets_pkey"),
)

Table(
    "ingested",
    metadata,
    _key("group_id"),
    _key("cluster_id"),
    _key("topic"),
    _key("topic_id"),
    Column("partition", Integer, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    _text("events_partition"),
    *(_count(name) for name in ("stored", "duplicate", "conflict", "dead_lettered", "tombstone", "lost")),
    Column("last_batch", ARRAY(BigInteger), nullable=False, server_default=text("'{}'::bigint[]")),
    _time("first_at", default=True),
    _time("last_at", default=True),
    PrimaryKeyConstraint(
        "group_id", "cluster_id", "topic", "topic_id", "partition", "first_offset", name="ingested_pkey"
    ),
)

Table(
    "replays",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    _key("group_id"),
    _key("cluster_id"),
    Column("topics", ARRAY(Text), nullable=False),
    Column("partitions", ARRAY(Integer), nullable=False),
    Column("first_offsets", ARRAY(BigInteger), nullable=False),
    Column("next_offsets", ARRAY(BigInteger), nullable=False),
    Column("expired", Boolean, nullable=False),
    Column("asked", Text, nullable=False),
    Column("records", BigInteger, nullable=False),
    *(
        _count(name)
        for name in ("done", "stored", "duplicate", "conflict", "dead_lettered", "tombstone", "reopened")
    ),
    Column("state", Text(collation="C"), nullable=False, server_default=text("'running'::text")),
    Column("message", Text),
    Column("owner_name", Text, nullable=False),
    _time("started_at", default=True),
    _time("seen_at", default=True),
    _time("ended_at"),
    PrimaryKeyConstraint("id", name="replays_pkey"),
)

Table(
    "snapshots",
    metadata,
    _key("key"),
    Column("state_version", Integer, nullable=False, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("state", JSON, nullable=False),
    _time("taken_at", default=True),
    PrimaryKeyConstraint("key", "state_version", name="snapshots_pkey"),
)

Table(
    "checkpoints",
    metadata,
    _key("name"),
    Column("sequence", BigInteger, nullable=False),
    Column("state", JSON),
    Column("state_version", Integer, nullable=False, server_default=text("1")),
    Column("epoch", BigInteger, nullable=False, server_default=text("1")),
    Column("owner", Text),
    _time("leased_until"),
    _count("accepted"),
    Column("fault", Text),
    _time("saved_at", default=True),
    PrimaryKeyConstraint("name", name="checkpoints_pkey"),
)

Table(
    "registry_schemas",
    metadata,
    Column("id", Integer, Identity(always=True), nullable=False),
    _key("schema"),
    Column("fingerprint", LargeBinary, nullable=False),
    _time("created_at", default=True),
    PrimaryKeyConstraint("id", name="registry_schemas_pkey"),
    UniqueConstraint("fingerprint", name="registry_schemas_fingerprint_key"),
)

_versions = Table(
    "registry_versions",
    metadata,
    _key("subject"),
    Column("version", Integer, nullable=False, autoincrement=False),
    Column("schema_id", Integer, nullable=False),
    _time("created_at", default=True),
    PrimaryKeyConstraint("subject", "version", name="registry_versions_pkey"),
    ForeignKeyConstraint(
        ["schema_id"], ["penstock.registry_schemas.id"], name="registry_versions_schema_id_fkey"
    ),
)
Index("registry_versions_schema_id", _versions.c.schema_id)

Table(
    "registry_config",
    metadata,
    _key("subject"),
    _key("compatibility"),
    PrimaryKeyConstraint("subject", name="registry_config_pkey"),
)

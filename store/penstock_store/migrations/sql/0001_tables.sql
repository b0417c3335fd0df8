-- Another encoding would refuse characters row by row, as if the events were at fault.
DO $$
BEGIN
    IF pg_catalog.current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'the database is encoded in %, events need UTF8', pg_catalog.current_setting('server_encoding')
            USING ERRCODE = 'feature_not_supported',
            HINT = 'Make the database by: CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0;';
    END IF;
END
$$;

-- The store's total order. It stands at 0 and not "before 1", so that last_value alone is always the last number given out.
CREATE SEQUENCE penstock.event_sequence AS bigint MINVALUE 0 START WITH 0 CACHE 1;

SELECT pg_catalog.setval('penstock.event_sequence', 0, true);

CREATE TABLE penstock.events (
    sequence        bigint NOT NULL,
    recorded_at     timestamptz NOT NULL,
    event_id        uuid NOT NULL,
    event_type      text COLLATE "C" NOT NULL,
    occurred_at     timestamptz NOT NULL,
    actor_type      text COLLATE "C",
    actor_id        text COLLATE "C",
    entity_id       text COLLATE "C" NOT NULL,
    tenant_id       text COLLATE "C" NOT NULL,
    correlation_id  text COLLATE "C" NOT NULL,
    causation_id    text COLLATE "C",
    schema_version  integer NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL,
    content_hash    bytea NOT NULL,
    payload         jsonb NOT NULL,
    metadata        jsonb NOT NULL
) PARTITION BY RANGE (recorded_at);

-- events: Append-only. Indexes live on the partitions, each made with the set that penstock.settings names at
-- that time.

CREATE TABLE penstock.settings (
    only_row           boolean NOT NULL DEFAULT true,
    partition_interval interval NOT NULL DEFAULT '1 day',
    leaf_indexes       text[] NOT NULL DEFAULT '{full}',
    CONSTRAINT settings_pkey PRIMARY KEY (only_row),
    CONSTRAINT settings_only_row CHECK (only_row),
    CONSTRAINT settings_partition_interval CHECK (
        partition_interval >= '1 second' AND extract(year FROM partition_interval) = 0
        AND extract(month FROM partition_interval) = 0),
    CONSTRAINT settings_leaf_indexes CHECK (
        leaf_indexes <@ '{full,lean,time,type,correlation,entity,actor,payload,tags,recorded}')
);

-- settings.leaf_indexes: Secondary indexes of partitions made from now on: full (all), lean (none), or a list of
-- single ones.

INSERT INTO penstock.settings DEFAULT VALUES;

CREATE TABLE penstock.partitions (
    name              text COLLATE "C" NOT NULL,
    lower             timestamptz NOT NULL,
    upper             timestamptz NOT NULL,
    state             text COLLATE "C" NOT NULL,
    indexes           text[] NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at         timestamptz,
    sealed_at         timestamptz,
    dropped_at        timestamptz,
    rows              bigint,
    first_sequence    bigint,
    last_sequence     bigint,
    first_recorded_at timestamptz,
    last_recorded_at  timestamptz,
    first_occurred_at timestamptz,
    last_occurred_at  timestamptz,
    min_key           text COLLATE "C",
    max_key           text COLLATE "C",
    key_blocks        integer,
    common_tags       text[],
    payload_probe     bigint,
    CONSTRAINT partitions_pkey PRIMARY KEY (name),
    CONSTRAINT partitions_lower_key UNIQUE (lower),
    CONSTRAINT partitions_bounds CHECK (lower < upper),
    CONSTRAINT partitions_state CHECK (state IN ('future', 'current', 'closed', 'dropped'))
);

-- partitions: One row per partition of events, kept after the drop so that the books still balance. closed_at:
-- rolled away, no more inserts; sealed_at: figures known and CHECK constraints added; min_key, max_key: bounds
-- of idempotency_key, which let ingestion skip a probe that cannot hit; key_blocks: how many blocks its
-- penstock.key_prints are cut into, null where there are none and every key has to be looked for;
-- common_tags: those that one in 32 of its events has, or more, which an index had better not be asked for beside a rare one;
-- payload_probe: penstock.payload_probe() of when the values of its payloads left fingerprints, null where they left none.

CREATE UNIQUE INDEX partitions_one_current ON penstock.partitions (state) WHERE state = 'current';

CREATE TABLE penstock.high_water (
    only_row     boolean NOT NULL DEFAULT true,
    sequence     bigint NOT NULL DEFAULT 0,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT high_water_pkey PRIMARY KEY (only_row),
    CONSTRAINT high_water_only_row CHECK (only_row)
) WITH (fillfactor = 10);

INSERT INTO penstock.high_water DEFAULT VALUES;

CREATE TABLE penstock.offsets (
    group_id            text COLLATE "C" NOT NULL,
    cluster_id          text COLLATE "C" NOT NULL,
    topic               text COLLATE "C" NOT NULL,
    partition           integer NOT NULL,
    topic_id            text COLLATE "C" NOT NULL,
    next_offset         bigint,
    leader_epoch        integer,
    epoch               bigint NOT NULL,
    owner_pid           integer,
    owner_backend_start timestamptz,
    owner_name          text,
    claimed_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    moved_at            timestamptz,
    attempts            integer NOT NULL DEFAULT 0,
    CONSTRAINT offsets_pkey PRIMARY KEY (group_id, cluster_id, topic, partition),
    CONSTRAINT offsets_next_offset CHECK (next_offset >= 0),
    CONSTRAINT offsets_owner CHECK ((owner_pid IS NULL) = (owner_backend_start IS NULL))
) WITH (fillfactor = 50);

-- offsets.leader_epoch: Kafka's, of the record before next_offset: a log that was truncated and grew again has another
-- there. Null where nobody knows.

-- offsets.attempts: Claims since the offset last moved or was released in good order: a record that kills its
-- worker shows here.

CREATE TABLE penstock.ingested (
    group_id         text COLLATE "C" NOT NULL,
    cluster_id       text COLLATE "C" NOT NULL,
    topic            text COLLATE "C" NOT NULL,
    topic_id         text COLLATE "C" NOT NULL,
    partition        integer NOT NULL,
    first_offset     bigint NOT NULL,
    next_offset      bigint NOT NULL,
    events_partition text COLLATE "C",
    stored           bigint NOT NULL DEFAULT 0,
    duplicate        bigint NOT NULL DEFAULT 0,
    conflict         bigint NOT NULL DEFAULT 0,
    dead_lettered    bigint NOT NULL DEFAULT 0,
    tombstone        bigint NOT NULL DEFAULT 0,
    lost             bigint NOT NULL DEFAULT 0,
    last_batch       bigint[] NOT NULL DEFAULT '{}',
    first_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ingested_pkey PRIMARY KEY (group_id, cluster_id, topic, topic_id, partition, first_offset),
    CONSTRAINT ingested_bounds CHECK (0 <= first_offset AND first_offset < next_offset),
    CONSTRAINT ingested_counts CHECK (
        stored + duplicate + conflict + dead_lettered + tombstone + lost <= next_offset - first_offset)
) WITH (fillfactor = 50);

-- ingested: Ranges [first_offset, next_offset) of Kafka offsets that were accounted for, with counts by outcome.
-- What the counts leave of the width are gaps that Kafka itself has: compaction, control records.

-- ingested.last_batch: The newest batch merged into this range: first offset, then its counts in column order.
-- It answers a worker that lost the reply to its COMMIT.


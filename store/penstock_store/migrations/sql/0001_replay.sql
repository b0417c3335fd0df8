-- Replays write like workers, with a fence of their own (a row of offsets under another group) and into the books of the
-- group that they replay for. Here is what keeps them off what is a worker's, and off what is in the books already.

CREATE TABLE penstock.replays (
    id            bigint GENERATED ALWAYS AS IDENTITY,
    group_id      text COLLATE "C" NOT NULL,
    cluster_id    text COLLATE "C" NOT NULL,
    topics        text[] NOT NULL,
    partitions    integer[] NOT NULL,
    first_offsets bigint[] NOT NULL,
    next_offsets  bigint[] NOT NULL,
    expired       boolean NOT NULL,
    asked         text NOT NULL,
    records       bigint NOT NULL,
    done          bigint NOT NULL DEFAULT 0,
    stored        bigint NOT NULL DEFAULT 0,
    duplicate     bigint NOT NULL DEFAULT 0,
    conflict      bigint NOT NULL DEFAULT 0,
    dead_lettered bigint NOT NULL DEFAULT 0,
    tombstone     bigint NOT NULL DEFAULT 0,
    reopened      bigint NOT NULL DEFAULT 0,
    state         text COLLATE "C" NOT NULL DEFAULT 'running',
    message       text,
    owner_name    text NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at      timestamptz,
    CONSTRAINT replays_pkey PRIMARY KEY (id),
    CONSTRAINT replays_state CHECK (state IN ('running', 'finished', 'stopped', 'failed')),
    CONSTRAINT replays_parts CHECK (
        cardinality(topics) = cardinality(partitions) AND cardinality(topics) = cardinality(first_offsets)
        AND cardinality(topics) = cardinality(next_offsets))
);

-- replays: One row per run, with what it was asked for (parallel arrays, one entry per partition). records: offsets to be read
-- when it began; done and the outcomes grow in the transactions that write the events; reopened: offsets whose books were
-- opened again because retention had dropped their events. seen_at: the last sign of life.

CREATE FUNCTION penstock.guard_replay(
    _books text, _clusters text[], _topics text[], _topic_ids text[], _partitions integer[], _first bigint[], _next bigint[])
RETURNS integer[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    refused integer[];
BEGIN
    -- The worker's position only grows, so what is below it stays a replay's; its row may move but not vanish meanwhile.
    PERFORM FROM offsets o
        JOIN unnest(_clusters, _topics, _partitions) AS w (cluster_id, topic, partition)
          ON o.cluster_id = w.cluster_id COLLATE "C" AND o.topic = w.topic COLLATE "C" AND o.partition = w.partition
        WHERE o.group_id = _books
        FOR KEY SHARE OF o;
    -- What was given up as lost is lost no longer: the part that comes now leaves the books of losses.
    WITH wanted AS (
        SELECT * FROM unnest(_clusters, _topics, _topic_ids, _partitions, _first, _next)
            AS w (cluster_id, topic, topic_id, partition, first_offset, next_offset)
    ), cut AS (
        DELETE FROM ingested i USING wanted w
        WHERE i.group_id = _books AND i.cluster_id = w.cluster_id COLLATE "C" AND i.topic = w.topic COLLATE "C"
          AND i.topic_id = w.topic_id COLLATE "C" AND i.partition = w.partition
          AND i.first_offset < w.next_offset AND i.next_offset > w.first_offset
          AND i.lost > 0 AND i.stored + i.duplicate + i.conflict + i.dead_lettered + i.tombstone = 0
        RETURNING i.*, w.first_offset AS cut_first, w.next_offset AS cut_next
    )
    INSERT INTO ingested (group_id, cluster_id, topic, topic_id, partition, first_offset, next_offset, lost, first_at, last_at)
    SELECT group_id, cluster_id, topic, topic_id, partition, rest.f, rest.n, rest.n - rest.f, first_at, last_at
    FROM cut CROSS JOIN LATERAL (VALUES (first_offset, cut_first), (cut_next, next_offset)) AS rest (f, n)
    WHERE rest.f < rest.n;
    SELECT array_agg(w.part::integer - 1 ORDER BY w.part) INTO refused
    FROM unnest(_clusters, _topics, _topic_ids, _partitions, _first, _next)
        WITH ORDINALITY AS w (cluster_id, topic, topic_id, partition, first_offset, next_offset, part)
    WHERE NOT EXISTS (
            SELECT FROM offsets o
            WHERE o.group_id = _books AND o.cluster_id = w.cluster_id COLLATE "C" AND o.topic = w.topic COLLATE "C"
              AND o.partition = w.partition AND o.topic_id = w.topic_id COLLATE "C" AND o.next_offset >= w.next_offset)
       OR EXISTS (
            SELECT FROM ingested i
            WHERE i.group_id = _books AND i.cluster_id = w.cluster_id COLLATE "C" AND i.topic = w.topic COLLATE "C"
              AND i.topic_id = w.topic_id COLLATE "C" AND i.partition = w.partition
              AND i.first_offset < w.next_offset AND i.next_offset > w.first_offset);
    RETURN refused;
END
$$;

COMMENT ON FUNCTION penstock.guard_replay IS
    'Within a replay''s batch, after its fence: indexes of the parts that are not its to write, because a worker has not passed '
    'them yet or because they are in the books already. Ranges of losses are cut where the batch brings them after all.';

CREATE FUNCTION penstock.reopen_expired(
    _books text, _cluster text, _topic text, _topic_id text, _partition integer, _first bigint) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
    DELETE FROM ingested i USING partitions p
    WHERE i.group_id = _books AND i.cluster_id = _cluster AND i.topic = _topic AND i.topic_id = _topic_id
      AND i.partition = _partition AND i.first_offset = _first
      AND p.name = i.events_partition AND p.state = 'dropped'
    RETURNING i.next_offset - i.first_offset
$$;

COMMENT ON FUNCTION penstock.reopen_expired IS
    'Takes a range out of the books whose events retention has dropped, so that it can be replayed; null where it is none. '
    'Whole ranges only: how the outcomes were spread within one is not known.';

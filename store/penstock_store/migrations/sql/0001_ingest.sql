-- In-flight floors are advisory locks with one 64-bit key: 20549 ('PE') << 48 | floor. In pg_locks: classid = high half,
-- objid = low half, objsubid = 1. 48 bits hold 281 million million events.

CREATE FUNCTION penstock.reserve_sequences(_n integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    taken bigint;
BEGIN
    -- Read, then mark, then move: whoever reads the sequence later than our move finds our mark.
    SELECT last_value INTO taken FROM event_sequence;
    PERFORM pg_advisory_xact_lock_shared((20549::bigint << 48) | taken);
    BEGIN
        -- Held for a moment, not until COMMIT: a block that raises is rolled back and gives its locks back, while setval stays.
        -- A session lock outlives an error that comes after it was granted and before it is known here.
        PERFORM pg_advisory_xact_lock(1346719315, 2);
        SELECT last_value INTO taken FROM event_sequence;
        PERFORM setval('penstock.event_sequence', taken + _n, true);
        RAISE SQLSTATE 'PN003';
    EXCEPTION
        WHEN SQLSTATE 'PN003' THEN
            RETURN taken + 1;
    END;
END
$$;

CREATE FUNCTION penstock.safe_sequence() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    given bigint;
    in_flight bigint;
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN (SELECT sequence FROM high_water);
    END IF;
    SELECT last_value INTO given FROM event_sequence;
    SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) INTO in_flight
        FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND classid::bigint >> 16 = 20549;
    RETURN least(given, in_flight);
END
$$;

COMMENT ON FUNCTION penstock.safe_sequence IS
    'Every event up to this sequence is visible to the next statement (READ COMMITTED) or will never exist. '
    'On a standby: the mark last published. A cursor should be the last event seen, not this mark: '
    'after a crash numbers that no committed event has may be given out again.';

-- Any partition may hold the next id. One plan for all of them, kept by each session, costs a tenth of planning them anew; it is
-- made before the limit is known, so the ways that only pay for many events are ruled out.
CREATE FUNCTION penstock.events_by_id(_after uuid, _after_sequence bigint, _most bigint, _descending boolean)
RETURNS SETOF penstock.events
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, penstock, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
BEGIN
    IF _descending THEN
        RETURN QUERY SELECT * FROM events WHERE (event_id, sequence) < (_after, _after_sequence)
            ORDER BY event_id DESC, sequence DESC LIMIT _most;
    ELSE
        RETURN QUERY SELECT * FROM events WHERE (event_id, sequence) > (_after, _after_sequence)
            ORDER BY event_id, sequence LIMIT _most;
    END IF;
END
$$;

COMMENT ON FUNCTION penstock.events_by_id IS 'The first events after an id, whatever else they are.';

CREATE FUNCTION penstock.publish() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    mark bigint := safe_sequence();
BEGIN
    UPDATE high_water SET sequence = mark, published_at = clock_timestamp() WHERE sequence < mark;
    IF FOUND THEN
        -- For the caller's COMMIT, so in a transaction of its own: after a crash the next mark stands for one that was lost.
        PERFORM set_config('synchronous_commit', 'off', true);
        PERFORM pg_notify('penstock_events', mark::text);
    END IF;
    RETURN mark;
END
$$;

CREATE FUNCTION penstock.begin_write(
    _group text, _clusters text[], _topics text[], _topic_ids text[], _partitions integer[], _epochs bigint[],
    _expected bigint[], _next bigint[], _leader_epochs integer[], _n integer, _window interval, _low_key text, _high_key text,
    _late boolean DEFAULT false,
    OUT fenced integer[], OUT leaf text, OUT recorded_at timestamptz, OUT first_sequence bigint,
    OUT roll_due boolean, OUT closed text[], OUT printed text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    now_ timestamptz;
    present partitions;
BEGIN
    WITH wanted AS (
        SELECT * FROM unnest(_clusters, _topics, _topic_ids, _partitions, _epochs, _expected, _next, _leader_epochs)
            WITH ORDINALITY AS w (cluster_id, topic, topic_id, partition, epoch, expected, next, leader_epoch, part)
    ), moved AS (
        UPDATE offsets o SET next_offset = w.next, leader_epoch = w.leader_epoch, moved_at = clock_timestamp(), attempts = 0
        FROM wanted w
        WHERE o.group_id = _group AND o.cluster_id = w.cluster_id COLLATE "C" AND o.topic = w.topic COLLATE "C"
          AND o.partition = w.partition AND o.topic_id = w.topic_id COLLATE "C"
          AND o.epoch = w.epoch AND o.next_offset IS NOT DISTINCT FROM w.expected
        RETURNING w.part
    )
    SELECT array_agg(w.part::integer - 1 ORDER BY w.part) INTO fenced
        FROM wanted w WHERE w.part NOT IN (SELECT part FROM moved);
    IF fenced IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(1346719315, 1);
    SELECT * INTO present FROM partitions WHERE state = 'current';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- clock_timestamp(), not now(): that is the time of BEGIN, before the lock.
    now_ := clock_timestamp();
    roll_due := now_ >= present.upper;
    -- Within the grace the roll follows the batch. After days without one, recorded_at would be days in the past.
    IF now_ >= present.upper + interval '5 seconds' AND NOT _late THEN
        RETURN;
    END IF;
    leaf := present.name;
    recorded_at := least(greatest(now_, present.lower), present.upper - interval '1 microsecond');
    -- By the lesser of clock and recorded_at: a clock that was ahead for a moment has rolled, and recorded_at waits there.
    SELECT coalesce(array_agg(p.name ORDER BY p.lower DESC), '{}'),
           coalesce(array_agg(p.name ORDER BY p.lower DESC) FILTER (WHERE p.key_blocks IS NOT NULL), '{}')
        INTO closed, printed
        FROM partitions p
        WHERE p.state = 'closed' AND p.upper > least(now_, recorded_at) - _window
          AND p.rows IS DISTINCT FROM 0
          AND (p.min_key IS NULL OR NOT (_high_key COLLATE "C" < p.min_key OR _low_key COLLATE "C" > p.max_key));
    IF _n > 0 THEN
        first_sequence := reserve_sequences(_n);
    END IF;
END
$$;

COMMENT ON FUNCTION penstock.begin_write IS
    'Opens a batch: fence (all parts or none), partition lock, clamped clock, block of sequences, closed partitions to probe and those of them with key prints. '
    'fenced: indexes of the parts whose epoch or position differ, and nothing else was done. leaf null: no current partition, or, with roll_due, '
    'one whose time has passed: roll and begin again, _late where the roll cannot pass: recorded_at is then the end of that time.';

CREATE FUNCTION penstock.finish_write(
    _group text, _clusters text[], _topics text[], _topic_ids text[], _partitions integer[], _first bigint[], _next bigint[],
    _stored bigint[], _duplicate bigint[], _conflict bigint[], _dead_lettered bigint[], _tombstone bigint[], _lost bigint[],
    _leaf text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
    WITH part AS (
        SELECT *, ARRAY[first_offset, stored, duplicate, conflict, dead_lettered, tombstone, lost] AS batch
        FROM unnest(_clusters, _topics, _topic_ids, _partitions, _first, _next,
                    _stored, _duplicate, _conflict, _dead_lettered, _tombstone, _lost)
            WITH ORDINALITY AS p (cluster_id, topic, topic_id, partition, first_offset, next_offset,
                                  stored, duplicate, conflict, dead_lettered, tombstone, lost, part)
    ), merged AS (
        UPDATE ingested i
        SET next_offset = p.next_offset, stored = i.stored + p.stored, duplicate = i.duplicate + p.duplicate,
            conflict = i.conflict + p.conflict, dead_lettered = i.dead_lettered + p.dead_lettered,
            tombstone = i.tombstone + p.tombstone, lost = i.lost + p.lost, last_batch = p.batch, last_at = clock_timestamp()
        FROM part p
        WHERE i.group_id = _group AND i.cluster_id = p.cluster_id COLLATE "C" AND i.topic = p.topic COLLATE "C"
          AND i.topic_id = p.topic_id COLLATE "C" AND i.partition = p.partition
          AND i.next_offset = p.first_offset AND i.events_partition IS NOT DISTINCT FROM _leaf COLLATE "C"
          AND i.first_offset = (
              SELECT j.first_offset FROM ingested j
              WHERE j.group_id = _group AND j.cluster_id = p.cluster_id COLLATE "C" AND j.topic = p.topic COLLATE "C"
                AND j.topic_id = p.topic_id COLLATE "C" AND j.partition = p.partition AND j.first_offset < p.first_offset
              ORDER BY j.first_offset DESC LIMIT 1)
        RETURNING p.part
    )
    INSERT INTO ingested (group_id, cluster_id, topic, topic_id, partition, first_offset, next_offset, events_partition,
                          stored, duplicate, conflict, dead_lettered, tombstone, lost, last_batch)
    SELECT _group, cluster_id, topic, topic_id, partition, first_offset, next_offset, _leaf,
           stored, duplicate, conflict, dead_lettered, tombstone, lost, batch
    FROM part WHERE part NOT IN (SELECT part FROM merged)
$$;

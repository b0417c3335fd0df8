-- Advisory locks. The pair (1346719315 = 'PENS', n) names the store's own: 1 current partition (shared by writers,
-- exclusive to roll), 2 the sequence, 3 making partitions, 4 the one that rolls. In-flight floors: see 0001_ingest.sql.

CREATE FUNCTION penstock.create_leaf_indexes(_leaf text, _sets text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES
            ('time', '(occurred_at, sequence)'),
            ('type', '(event_type, occurred_at, sequence)'),
            ('correlation', '(correlation_id, occurred_at, sequence)'),
            ('entity', '(entity_id, occurred_at, sequence)'),
            ('actor', '(actor_id, occurred_at) WHERE actor_id IS NOT NULL'),
            ('payload', 'USING gin (payload jsonb_path_ops)'),
            ('tags', 'USING gin ((metadata -> ''tags''))'),
            ('recorded', 'USING brin (recorded_at) WITH (pages_per_range = 32, autosummarize = on)')
        ) AS known (name, definition)
        WHERE name = ANY (_sets) OR 'full' = ANY (_sets)
    LOOP
        EXECUTE format('CREATE INDEX %I ON penstock.%I ', _leaf || '_' || item.name, _leaf) || item.definition;
    END LOOP;
END
$$;

CREATE FUNCTION penstock.create_partition(_at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp
SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    config settings;
    leaf text;
    lo timestamptz;
    hi timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(1346719315, 3);
    SELECT name INTO leaf FROM partitions WHERE _at >= lower AND _at < upper AND state <> 'dropped';
    IF FOUND THEN
        RETURN leaf;
    END IF;
    IF EXISTS (SELECT FROM partitions WHERE state = 'current' AND _at < lower) THEN
        RAISE EXCEPTION 'no partition is made for %: the store has rolled past it', _at
            USING ERRCODE = 'PN001', HINT = 'Ask for a time at or after the current partition.';
    END IF;
    SELECT * INTO STRICT config FROM settings;
    lo := date_bin(config.partition_interval, _at, '2000-01-01 00:00:00+00');
    -- After a change of the interval, neighbours of another width narrow the new one.
    SELECT greatest(lo, max(upper)) INTO lo FROM partitions WHERE upper <= _at;
    SELECT least(date_bin(config.partition_interval, _at, '2000-01-01 00:00:00+00') + config.partition_interval, min(lower))
        INTO hi FROM partitions WHERE lower > _at;
    leaf := 'events_' || to_char(lo, 'YYYYMMDD_HH24MISS');
    -- LIKE and ATTACH lock the parent less than CREATE … PARTITION OF does: reads and writes go on.
    EXECUTE format('CREATE TABLE penstock.%I (LIKE penstock.events INCLUDING ALL)', leaf);
    EXECUTE format('CREATE UNIQUE INDEX %I ON penstock.%I (sequence)', leaf || '_sequence', leaf);
    EXECUTE format('CREATE UNIQUE INDEX %I ON penstock.%I (tenant_id, idempotency_key)', leaf || '_key', leaf);
    EXECUTE format('CREATE UNIQUE INDEX %I ON penstock.%I (event_id)', leaf || '_event_id', leaf);
    PERFORM create_leaf_indexes(leaf, config.leaf_indexes);
    EXECUTE format('GRANT SELECT, INSERT ON penstock.%I TO penstock_writer', leaf);
    EXECUTE format('GRANT SELECT ON penstock.%I TO penstock_reader, penstock_retention', leaf);
    EXECUTE format('ALTER TABLE penstock.events ATTACH PARTITION penstock.%I FOR VALUES FROM (%L) TO (%L)', leaf, lo, hi);
    INSERT INTO partitions (name, lower, upper, state, indexes) VALUES (leaf, lo, hi, 'future', config.leaf_indexes);
    RETURN leaf;
END
$$;

COMMENT ON FUNCTION penstock.create_partition IS
    'Makes the partition that holds a time, or names it where it exists. Never in the transaction of a roll.';

CREATE FUNCTION penstock.ensure_partitions(_ahead integer) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    edge timestamptz := clock_timestamp();
    leaf text;
    leaves text[] := '{}';
BEGIN
    IF _ahead NOT BETWEEN 0 AND 400 THEN
        RAISE EXCEPTION 'cannot make % partitions ahead: give 0 to 400', _ahead USING ERRCODE = 'PN001';
    END IF;
    -- After the clock went back the current partition lies ahead of it.
    SELECT greatest(edge, max(lower)) INTO edge FROM partitions WHERE state = 'current';
    FOR i IN 0 .. _ahead LOOP
        leaf := create_partition(edge);
        leaves := leaves || leaf;
        SELECT upper INTO edge FROM partitions WHERE name = leaf;
    END LOOP;
    RETURN leaves;
END
$$;

COMMENT ON FUNCTION penstock.ensure_partitions IS 'Makes the partition of now and the given number after it; returns their names.';

CREATE FUNCTION penstock.roll(_at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp
SET lock_timeout = '10s' AS $$
DECLARE
    target partitions;
    present partitions;
BEGIN
    SELECT * INTO present FROM partitions WHERE state = 'current';
    IF present.upper > _at THEN
        RETURN 'current';
    END IF;
    IF NOT pg_try_advisory_xact_lock(1346719315, 4) THEN
        RETURN 'busy';
    END IF;
    SELECT * INTO target FROM partitions WHERE _at >= lower AND _at < upper AND state IN ('future', 'current');
    IF NOT FOUND THEN
        RETURN 'missing';
    END IF;
    -- Waits for the batches under way, and new ones wait behind it: long enough for a slow batch, shorter than the
    -- patience of writers, so that one stopped in the middle of a batch delays but does not fail the others.
    PERFORM pg_advisory_xact_lock(1346719315, 1);
    SELECT * INTO present FROM partitions WHERE state = 'current';
    IF present.lower >= target.lower THEN
        RETURN 'current';
    END IF;
    UPDATE partitions SET state = 'closed', closed_at = clock_timestamp()
        WHERE lower < target.lower AND state IN ('current', 'future');
    UPDATE partitions SET state = 'current' WHERE name = target.name;
    RETURN 'rolled';
END
$$;

COMMENT ON FUNCTION penstock.roll(timestamptz) IS
    'Makes the partition that holds a time the current one: forward only, exclusive of every writer for a moment. '
    'Answers rolled, current (nothing to do), busy (another session is at it) or missing (create_partition first).';

CREATE FUNCTION penstock.roll() RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp
AS 'SELECT penstock.roll(clock_timestamp())';

CREATE FUNCTION penstock.close_partition(_name text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp
SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    leaf partitions;
    figures record;
    bounds text := 'false';  -- no read looks into what is known to be empty
BEGIN
    SELECT * INTO leaf FROM partitions WHERE name = _name FOR UPDATE;
    IF NOT FOUND OR leaf.state <> 'closed' THEN
        RAISE EXCEPTION 'partition "%" is not closed (state: %)', _name, coalesce(leaf.state, 'unknown')
            USING ERRCODE = 'PN002', HINT = 'Only a partition that was rolled away is finished with figures and constraints.';
    END IF;
    IF leaf.sealed_at IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'SELECT count(*) AS rows, min(sequence) AS s1, max(sequence) AS s2, min(recorded_at) AS r1, max(recorded_at) AS r2, '
        'min(occurred_at) AS o1, max(occurred_at) AS o2, min(idempotency_key) AS k1, max(idempotency_key) AS k2 FROM penstock.%I', _name)
        INTO figures;
    UPDATE partitions SET sealed_at = clock_timestamp(), rows = figures.rows,
        key_blocks = CASE WHEN figures.rows > 0 THEN take_key_prints(_name, figures.rows) END,
        first_sequence = figures.s1, last_sequence = figures.s2,
        first_recorded_at = figures.r1, last_recorded_at = figures.r2,
        first_occurred_at = figures.o1, last_occurred_at = figures.o2,
        min_key = figures.k1, max_key = figures.k2, common_tags = find_common_tags(_name, figures.rows),
        -- Whoever leaves the index of payloads out does not look into them.
        payload_probe = CASE WHEN figures.rows > 0 AND leaf.indexes && '{full,payload}' THEN take_payload_prints(_name, figures.rows) END
        WHERE name = _name;
    IF figures.rows > 0 THEN
        PERFORM take_prints(_name);
        bounds := format('sequence BETWEEN %s AND %s AND occurred_at BETWEEN %L AND %L', figures.s1, figures.s2, figures.o1, figures.o2);
    END IF;
    -- NOT VALID here: the exclusive lock lasts for a moment, validate_partition() scans without it.
    EXECUTE format('ALTER TABLE penstock.%I ADD CONSTRAINT %I CHECK (%s) NOT VALID', _name, _name || '_bounds', bounds);
    RETURN true;
END
$$;

CREATE FUNCTION penstock.validate_partition(_name text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
        WHERE t.relnamespace = 'penstock'::regnamespace AND t.relname = _name
          AND c.conname = _name || '_bounds' AND NOT c.convalidated)
    THEN
        RETURN false;
    END IF;
    EXECUTE format('ALTER TABLE penstock.%I VALIDATE CONSTRAINT %I', _name, _name || '_bounds');
    -- Autovacuum comes a minute later or not at all; without statistics a read sorts the partition for each chunk.
    EXECUTE format('ANALYZE penstock.%I', _name);
    RETURN true;
END
$$;

COMMENT ON FUNCTION penstock.close_partition IS
    'Writes down the figures and fingerprints of a closed partition and bounds it by CHECK constraints, which prune reads by sequence and by '
    'occurred_at. Call validate_partition() afterwards, in a transaction of its own; it takes the statistics, too.';

CREATE FUNCTION penstock.drop_partition(_name text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp
SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    leaf partitions;
BEGIN
    SELECT * INTO leaf FROM partitions WHERE name = _name FOR UPDATE;
    IF NOT FOUND OR leaf.state <> 'closed' THEN
        RAISE EXCEPTION 'partition "%" cannot be dropped (state: %)', _name, coalesce(leaf.state, 'unknown')
            USING ERRCODE = 'PN002', HINT = 'Only closed partitions are dropped; the current and future ones are being written to.';
    END IF;
    IF leaf.sealed_at IS NULL THEN
        RAISE EXCEPTION 'partition "%" has no figures yet', _name
            USING ERRCODE = 'PN002', HINT = 'Run close_partition() first: what is dropped stays in the books.';
    END IF;
    EXECUTE format('ALTER TABLE penstock.events DETACH PARTITION penstock.%I', _name);
    EXECUTE format('DROP TABLE penstock.%I', _name);
    DELETE FROM prints p WHERE p.leaf = _name;
    DELETE FROM key_prints p WHERE p.leaf = _name;
    UPDATE partitions SET state = 'dropped', dropped_at = clock_timestamp() WHERE name = _name;
    RETURN leaf.rows;
END
$$;

COMMENT ON FUNCTION penstock.drop_partition IS
    'Drops a closed partition and returns how many events went with it (outcome: expired). '
    'Gives up after lock_timeout (SQLSTATE 55P03) where a long read holds the table: try again later.';

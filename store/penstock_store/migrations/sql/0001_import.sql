-- Events of another store, with their sequence and, as far as partitions go forward only, their recorded_at. Whoever imports
-- holds the partition lock exclusively for a batch: no other writer beside it, so the order of sequences stays that of commits
-- and a reader skips nothing.

CREATE FUNCTION penstock.last_stored() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    leaf text;
    found_ bigint;
BEGIN
    FOR leaf IN
        SELECT name FROM partitions WHERE state IN ('current', 'closed') AND rows IS DISTINCT FROM 0 ORDER BY lower DESC
    LOOP
        EXECUTE format('SELECT max(sequence) FROM penstock.%I', leaf) INTO found_;
        EXIT WHEN found_ IS NOT NULL;
    END LOOP;
    RETURN coalesce(found_, 0);
END
$$;

COMMENT ON FUNCTION penstock.last_stored IS 'The highest sequence of an event that is kept; 0 where there is none.';

CREATE FUNCTION penstock.import_time(_at timestamptz) RETURNS timestamptz
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
    SELECT greatest(least(_at, clock_timestamp()), (SELECT max(upper) FROM partitions WHERE state = 'dropped'))
$$;

CREATE FUNCTION penstock.prepare_import(_at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp
SET timezone = 'UTC' SET lock_timeout = '10s' AS $$
DECLARE
    at_ timestamptz := import_time(_at);
    leaf text;
BEGIN
    PERFORM pg_advisory_xact_lock(1346719315, 1);
    IF last_stored() = 0 THEN
        -- Nobody has stored anything: history may still begin before the partition that happens to be current.
        FOR leaf IN
            UPDATE partitions SET state = 'future', closed_at = NULL, sealed_at = NULL, rows = NULL,
                min_key = NULL, max_key = NULL, key_blocks = NULL, common_tags = NULL
                WHERE state IN ('current', 'closed') AND upper > at_ RETURNING name
        LOOP
            EXECUTE format('ALTER TABLE penstock.%I DROP CONSTRAINT IF EXISTS %I', leaf, leaf || '_bounds');
        END LOOP;
    END IF;
    IF EXISTS (SELECT FROM partitions WHERE state = 'current' AND at_ < upper) THEN
        RETURN 'current';
    END IF;
    PERFORM create_partition(at_);
    RETURN roll(at_);
END
$$;

COMMENT ON FUNCTION penstock.prepare_import IS
    'Makes the partition of a past time the current one, as far as that goes forward: only a store without any event goes back.';

CREATE FUNCTION penstock.begin_import(
    _expected bigint, _at timestamptz,
    OUT present bigint, OUT leaf text, OUT lower timestamptz, OUT upper timestamptz, OUT now_ timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp SET lock_timeout = '10s' AS $$
DECLARE
    at_ timestamptz := import_time(_at);
    given bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(1346719315, 1);
    present := last_stored();
    IF present <> _expected THEN
        RETURN;
    END IF;
    SELECT p.name, p.lower, p.upper INTO leaf, lower, upper FROM partitions p
        WHERE p.state = 'current' AND at_ < p.upper AND (at_ >= p.lower OR present > 0);
    now_ := clock_timestamp();
    -- The floor that holds safe_sequence() back until these are visible: see reserve_sequences().
    SELECT last_value INTO given FROM event_sequence;
    PERFORM pg_advisory_xact_lock_shared((20549::bigint << 48) | least(given, present));
END
$$;

COMMENT ON FUNCTION penstock.begin_import IS
    'Opens a batch of events that keep their sequence, all above every one stored. present differs from _expected: somebody else '
    'has stored meanwhile, nothing was done. leaf null: call prepare_import() in a transaction of its own and begin again.';

CREATE FUNCTION penstock.finish_import() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp AS $$
    SELECT setval('penstock.event_sequence', greatest((SELECT last_value FROM event_sequence), last_stored()), true)
$$;

COMMENT ON FUNCTION penstock.finish_import IS
    'Moves the sequence past what the batch stored; before its COMMIT, as its locks keep other writers from drawing.';

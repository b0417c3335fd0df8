-- Appends that do not come from Kafka: one call, one transaction. Writers of an entity meet at one of 256 advisory locks
-- (1346719316, n): shared without an expected version, exclusive with one. Keys come distinct. Each statement on a partition
-- is planned anew, which is what a single append costs: so the current partition's unique indexes are asked by the insert alone,
-- and only what they refuse is looked for. JIT is off, as a sequence can be read by a "sequential scan" alone, and with those
-- off that plan seems costly enough to compile.
CREATE FUNCTION penstock.append_events(
    _event_ids uuid[], _event_types text[], _occurred_at timestamptz[], _actor_types text[], _actor_ids text[],
    _entity_ids text[], _tenant_ids text[], _correlation_ids text[], _causation_ids text[], _schema_versions integer[],
    _keys text[], _hashes bytea[], _payloads text[], _metadata text[], _expected bigint, _late boolean DEFAULT false,
    OUT leaf text, OUT roll_due boolean, OUT recorded_at timestamptz, OUT first_sequence bigint, OUT entity_version bigint,
    OUT known integer[], OUT known_ids uuid[], OUT known_sequences bigint[], OUT known_at timestamptz[],
    OUT conflicts integer[], OUT taken integer[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, penstock, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    present partitions;
    probe text;
    bucket integer;
    careful boolean := _expected IS NOT NULL;
    found_ record;
    low_key text := (SELECT min(k COLLATE "C") FROM unnest(_keys) AS k);
    high_key text := (SELECT max(k COLLATE "C") FROM unnest(_keys) AS k);
    hashes_ bytea[] := (SELECT array_agg(key_hash(tenant, key)) FROM unnest(_tenant_ids, _keys) AS k (tenant, key));
    now_ timestamptz;
BEGIN
    FOR bucket IN
        SELECT DISTINCT (hashtextextended(entity, hashtext(tenant)) & 255)::integer AS n
        FROM unnest(_entity_ids, _tenant_ids) AS e (entity, tenant) ORDER BY n
    LOOP
        IF _expected IS NULL THEN
            PERFORM pg_advisory_xact_lock_shared(1346719316, bucket);
        ELSE
            PERFORM pg_advisory_xact_lock(1346719316, bucket);
        END IF;
    END LOOP;
    PERFORM pg_advisory_xact_lock_shared(1346719315, 1);
    SELECT * INTO present FROM partitions WHERE state = 'current';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    roll_due := clock_timestamp() >= present.upper + interval '5 seconds';
    IF roll_due AND NOT _late THEN
        RETURN;
    END IF;
    leaf := present.name;
    LOOP
        known := '{}';
        known_ids := '{}';
        known_sequences := '{}';
        known_at := '{}';
        conflicts := '{}';
        taken := '{}';
        FOR probe IN
            SELECT name FROM partitions p
            WHERE (state = 'current' AND careful) OR (
                state = 'closed' AND rows IS DISTINCT FROM 0
                AND (min_key IS NULL OR NOT (high_key COLLATE "C" < min_key OR low_key COLLATE "C" > max_key))
                AND (key_blocks IS NULL OR EXISTS (
                    SELECT FROM unnest(hashes_) AS h (hash)
                    LEFT JOIN key_prints k ON k.leaf = p.name AND k.block = key_block(h.hash, p.key_blocks)
                    WHERE k.prints IS NULL OR position(substr(h.hash, 4, 4) IN k.prints) > 0)))
            ORDER BY lower DESC
        LOOP
            EXECUTE format(
                'SELECT array_agg(k.item::integer) AS items, array_agg(e.event_id) AS ids, array_agg(e.sequence) AS sequences, '
                'array_agg(e.recorded_at) AS times, coalesce(array_agg(k.item::integer) FILTER (WHERE e.content_hash <> k.hash), ''{}'') AS differ '
                'FROM unnest($1, $2, $3) WITH ORDINALITY AS k (tenant, key, hash, item) '
                'JOIN penstock.%I e ON e.tenant_id = k.tenant COLLATE "C" AND e.idempotency_key = k.key COLLATE "C" '
                'WHERE k.item::integer <> ALL ($4)', probe)
                INTO found_ USING _tenant_ids, _keys, _hashes, known;
            IF found_.items IS NOT NULL THEN
                known := known || found_.items;
                known_ids := known_ids || found_.ids;
                known_sequences := known_sequences || found_.sequences;
                known_at := known_at || found_.times;
                conflicts := conflicts || found_.differ;
            END IF;
        END LOOP;
        IF careful THEN
            EXECUTE format(
                'SELECT coalesce(array_agg(k.item::integer), ''{}'') FROM unnest($1) WITH ORDINALITY AS k (id, item) '
                'JOIN penstock.%I e ON e.event_id = k.id WHERE k.item::integer <> ALL ($2)', leaf)
                INTO taken USING _event_ids, known;
        END IF;
        IF cardinality(conflicts) + cardinality(taken) > 0 OR cardinality(known) = cardinality(_keys) THEN
            RETURN;
        END IF;
        IF _expected IS NOT NULL THEN
            FOR probe IN
                SELECT name FROM partitions
                WHERE state IN ('current', 'closed') AND rows IS DISTINCT FROM 0
                  AND (sealed_at IS NULL OR can_hold(name, 'entity_id', _entity_ids[1]))
                ORDER BY lower DESC
            LOOP
                -- "+ 0" keeps the index of sequences out of it, which would be read backwards to its end for a new entity.
                EXECUTE format(
                    'SELECT sequence FROM penstock.%I WHERE entity_id = $1 AND tenant_id = $2 ORDER BY sequence + 0 DESC LIMIT 1', probe)
                    INTO entity_version USING _entity_ids[1], _tenant_ids[1];
                EXIT WHEN entity_version IS NOT NULL;
            END LOOP;
            entity_version := coalesce(entity_version, 0);
            IF entity_version <> _expected THEN
                RETURN;
            END IF;
        END IF;
        now_ := clock_timestamp();
        roll_due := now_ >= present.upper;
        recorded_at := least(greatest(now_, present.lower), present.upper - interval '1 microsecond');
        first_sequence := reserve_sequences(cardinality(_keys) - cardinality(known));
        BEGIN
            EXECUTE format(
                'INSERT INTO penstock.%I (sequence, recorded_at, event_id, event_type, occurred_at, actor_type, actor_id, entity_id, '
                'tenant_id, correlation_id, causation_id, schema_version, idempotency_key, content_hash, payload, metadata) '
                'SELECT $1 + row_number() OVER (ORDER BY item) - 1, $2, event_id, event_type, occurred_at, actor_type, actor_id, entity_id, '
                'tenant_id, correlation_id, causation_id, schema_version, key, hash, payload::jsonb, meta::jsonb '
                'FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) WITH ORDINALITY AS e '
                '(event_id, event_type, occurred_at, actor_type, actor_id, entity_id, tenant_id, correlation_id, causation_id, '
                'schema_version, key, hash, payload, meta, item) WHERE item::integer <> ALL ($17)', leaf)
                USING first_sequence, recorded_at, _event_ids, _event_types, _occurred_at, _actor_types, _actor_ids, _entity_ids,
                      _tenant_ids, _correlation_ids, _causation_ids, _schema_versions, _keys, _hashes, _payloads, _metadata, known;
            RETURN;
        EXCEPTION
            WHEN unique_violation THEN
                IF careful THEN
                    RAISE;
                END IF;
                first_sequence := NULL;
                careful := true;
        END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION penstock.append_events IS
    'Stores events whose keys no partition holds, all or none. known: ordinals (from 1) that are stored, with where; conflicts: '
    'those of them with other content; taken: ordinals whose event id the current partition holds. first_sequence null: nothing '
    'was stored. leaf null: no current partition, or, with roll_due, one whose time has passed: roll and call again, _late where the roll '
    'cannot pass: recorded_at is then the end of that time.';

CREATE TABLE penstock.snapshots (
    key           text COLLATE "C" NOT NULL,
    state_version integer NOT NULL,
    sequence      bigint NOT NULL,
    state         json NOT NULL,
    taken_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT snapshots_pkey PRIMARY KEY (key, state_version),
    CONSTRAINT snapshots_sequence CHECK (sequence >= 0),
    CONSTRAINT snapshots_state_version CHECK (state_version >= 1)
);

-- snapshots.state: json and not jsonb, which would not give back the numbers as they were written.

-- A value that few events have lies in many partitions, and planning one anew costs ten times what reading it does. So a
-- session keeps a plan for each partition and kind of value: a sealed partition no longer changes, so neither does its plan,
-- while one plan for the whole table would be made again, for all partitions, whenever the current one is analysed.
CREATE FUNCTION penstock.rare_events(_leaves text[], _kind text, _value text, _most bigint) RETURNS SETOF penstock.events
LANGUAGE plpgsql SET search_path = pg_catalog, penstock, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    condition text := CASE
        WHEN _kind = 'tags' THEN 'metadata -> ''tags'' @> $1'
        WHEN _kind = 'payload' THEN 'payload @> $1'
        WHEN _kind IN ('correlation_id', 'entity_id', 'actor_id', 'event_type', 'tenant_id') THEN _kind || ' = $1'
    END;
    leaf text;
    found bigint;
    rest bigint := _most;
    plan text;
    run text;
BEGIN
    FOREACH leaf IN ARRAY _leaves LOOP
        plan := format('%I', 'penstock.' || _kind || '.' || leaf);
        run := format('EXECUTE %s (%L, %s)', plan, _value, rest + 1);
        BEGIN
            RETURN QUERY EXECUTE run;
            GET DIAGNOSTICS found = ROW_COUNT;
        EXCEPTION WHEN syntax_error OR invalid_sql_statement_name THEN
            -- Not made yet: of what it does not know PostgreSQL says that it returns no rows.
            EXECUTE format('PREPARE %s AS SELECT * FROM penstock.%I WHERE %s LIMIT $2', plan, leaf, condition);
            RETURN QUERY EXECUTE run;
            GET DIAGNOSTICS found = ROW_COUNT;
        END;
        rest := rest - found;
        IF rest < 0 THEN
            RAISE EXCEPTION 'more than % events have that value of %', _most, _kind
                USING ERRCODE = 'PN003', HINT = 'Read them in order: the value is not rare.';
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION penstock.rare_events IS
    'All events of the given closed partitions that have a value, in no order. '
    'Raises PN003 where they are more than _most, having read no more than that, and 42P01 where one was dropped.';

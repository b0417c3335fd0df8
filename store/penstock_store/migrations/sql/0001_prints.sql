-- What a sealed partition holds, small enough to be asked of hundreds at once: per kind of value a set of 24-bit
-- fingerprints, cut into blocks by hash. A block that lacks the print of a value: no event of the partition has it. One that
-- holds it: look there, once in about 30,000 partitions for nothing. By SHA-256, as PostgreSQL's own hashes may change between
-- its versions and these are dumped and restored.
CREATE TABLE penstock.prints (
    kind   text COLLATE "C" NOT NULL,
    blocks integer NOT NULL,
    block  integer NOT NULL,
    leaf   text COLLATE "C" NOT NULL,
    prints bytea NOT NULL,
    CONSTRAINT prints_pkey PRIMARY KEY (kind, blocks, block, leaf)
);

-- prints.blocks: a power of four, so that about 100 values share a block; a value's block is its hash modulo that number.

CREATE FUNCTION penstock.take_prints(_leaf text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    item record;
BEGIN
    DELETE FROM prints WHERE leaf = _leaf;
    FOR item IN
        SELECT * FROM (VALUES
            ('event_id', 'event_id::text', ''),
            ('event_type', 'event_type', ''),
            ('actor_id', 'actor_id', ''),
            ('entity_id', 'entity_id', ''),
            ('tenant_id', 'tenant_id', ''),
            ('correlation_id', 'correlation_id', ''),
            ('tags', 'tag', ', jsonb_array_elements_text(CASE jsonb_typeof(metadata -> ''tags'') WHEN ''array'' THEN metadata -> ''tags'' ELSE ''[]'' END) AS tag')
        ) AS known (kind, value, source)
    LOOP
        EXECUTE format(
            'INSERT INTO penstock.prints (kind, blocks, block, leaf, prints) '
            'WITH hashes AS MATERIALIZED (SELECT sha256(convert_to(value, ''UTF8'')) AS hash FROM (SELECT DISTINCT %s AS value FROM penstock.%I%s) AS found WHERE value IS NOT NULL), '
            'size AS (SELECT (4 ^ least(8, ceil(log(4, greatest(1, count(*) / 200.0)))))::integer AS blocks FROM hashes) '
            'SELECT %L, blocks, ((''x'' || encode(substr(hash, 1, 4), ''hex''))::bit(32)::bigint & (blocks - 1))::integer AS block, %L, string_agg(DISTINCT substr(hash, 5, 3), '''') '
            'FROM hashes CROSS JOIN size GROUP BY blocks, block', item.value, _leaf, item.source, item.kind, _leaf);
    END LOOP;
END
$$;

COMMENT ON FUNCTION penstock.take_prints IS
    'Writes the fingerprints of a partition that nothing is inserted into any more. The reader that asks them knows the kinds and the hash.';

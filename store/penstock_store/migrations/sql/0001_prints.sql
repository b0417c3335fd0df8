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
    DELETE FROM prints WHERE leaf = _leaf AND kind <> 'payload';
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

-- Of a key at the top of a payload and its value. PostgreSQL's own hash, because the SHA-256 of a text that is the same for 1 and
-- 1.0 costs twice as much. It is the one of hash partitions, which outlives versions but not every move to another machine:
-- partitions.payload_probe says whether it is still what the prints were made with. Hashed once more, as 0 and null differ in its
-- last bits alone, and so do 1 and 10000.
CREATE FUNCTION penstock.payload_hash(_key text, _value jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashint8extended(jsonb_hash_extended(_value, hashtextextended(_key COLLATE "C", 0)), 0);

CREATE FUNCTION penstock.payload_probe() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN penstock.payload_hash('probe', '[1.50, "value", true, null]');

CREATE FUNCTION penstock.take_payload_prints(_leaf text, _rows bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, penstock, pg_temp SET jit = off AS $$
DECLARE
    source text := 'jsonb_each(CASE jsonb_typeof(payload) WHEN ''object'' THEN payload ELSE ''{}'' END)';
    each double precision;
BEGIN
    DELETE FROM prints WHERE leaf = _leaf AND kind = 'payload';
    EXECUTE format('SELECT count(value)::float8 / least(1000, $1) FROM (SELECT payload FROM %I LIMIT 1000) AS e, %s', _leaf, source)
        INTO each USING _rows;
    IF each > 16 THEN
        RETURN NULL;
    END IF;
    EXECUTE format(
        'INSERT INTO prints (kind, blocks, block, leaf, prints) '
        'SELECT ''payload'', $1, (hash & ($1 - 1))::integer AS block, %1$L, string_agg(DISTINCT substr(int8send(hash), 1, 3), '''') '
        'FROM (SELECT payload_hash(key, value) AS hash FROM %1$I, %2$s WHERE jsonb_typeof(value) NOT IN (''object'', ''array'')) AS hashes '
        'GROUP BY block', _leaf, source)
        USING (4 ^ least(8, ceil(log(4, greatest(1, each * _rows / 200)::numeric))))::integer;
    RETURN payload_probe();
END
$$;

COMMENT ON FUNCTION penstock.take_payload_prints IS
    'Writes the fingerprints of the values at the top of a sealed partition''s payloads, but for objects and arrays; gives what '
    'partitions.payload_probe has to be. None, and null, where events have more than 16: they would cost more than all else at close.';

CREATE FUNCTION penstock.can_hold(_leaf text, _kind text, _value text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, penstock, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM sha256(convert_to(_value, 'UTF8')) AS hash
        CROSS JOIN unnest(ARRAY[1, 4, 16, 64, 256, 1024, 4096, 16384, 65536]) AS size
        JOIN prints p ON p.kind = _kind AND p.blocks = size AND p.leaf = _leaf
            AND p.block = ((get_byte(hash, 2) << 8) | get_byte(hash, 3)) & (size - 1)
        WHERE position(substr(hash, 5, 3) IN p.prints) > 0)
$$;

COMMENT ON FUNCTION penstock.can_hold IS 'Of a sealed partition: false where no event of it has that value.';

CREATE FUNCTION penstock.find_common_tags(_leaf text, _rows bigint) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    found text[];
BEGIN
    EXECUTE format(
        'SELECT coalesce(array_agg(tag ORDER BY tag), ''{}'') FROM ('
        'SELECT tag FROM penstock.%I, jsonb_array_elements_text(CASE jsonb_typeof(metadata -> ''tags'') WHEN ''array'' THEN metadata -> ''tags'' ELSE ''[]'' END) AS tag '
        'GROUP BY tag HAVING count(*) * 32 >= $1) AS common', _leaf)
        INTO found USING _rows;
    RETURN found;
END
$$;

COMMENT ON FUNCTION penstock.find_common_tags IS
    'Of a partition that nothing is inserted into any more: the tags that one in 32 events has, or more. Readers look them up in the '
    'events that a rarer tag finds: the index would read its list of events for each of those.';

-- The keys of a sealed partition, for writers: whoever looks for a key probes the partitions whose block holds its print, and
-- with keys of chance that is nearly always none. Of SHA-256 of tenant, line feed, key: the first three bytes, modulo
-- partitions.key_blocks, are the block, the four after them the print. One print for each row, so that one missing shows.
CREATE TABLE penstock.key_prints (
    leaf   text COLLATE "C" NOT NULL,
    block  integer NOT NULL,
    prints bytea NOT NULL,
    CONSTRAINT key_prints_pkey PRIMARY KEY (leaf, block)
);

-- STABLE as convert_to() is: else it would not be inlined.
CREATE FUNCTION penstock.key_hash(_tenant text, _key text) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(convert_to(_tenant || chr(10) || _key, 'UTF8'));

CREATE FUNCTION penstock.key_block(_hash bytea, _blocks integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ((get_byte(_hash, 0) << 16) | (get_byte(_hash, 1) << 8) | get_byte(_hash, 2)) & (_blocks - 1);

CREATE FUNCTION penstock.take_key_prints(_leaf text, _rows bigint) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, penstock, pg_temp AS $$
DECLARE
    blocks integer := (2 ^ least(22, ceil(log(2, greatest(1, _rows / 128.0)))))::integer;
BEGIN
    DELETE FROM key_prints WHERE leaf = _leaf;
    EXECUTE format(
        'INSERT INTO penstock.key_prints (leaf, block, prints) '
        'SELECT %1$L, key_block(hash, $1), string_agg(substr(hash, 4, 4), '''') '
        'FROM (SELECT key_hash(tenant_id, idempotency_key) AS hash FROM penstock.%1$I OFFSET 0) AS e GROUP BY 2', _leaf)
        USING blocks;
    RETURN blocks;
END
$$;

COMMENT ON FUNCTION penstock.take_key_prints IS
    'Writes the prints of a sealed partition''s keys; gives how many blocks they are cut into, for partitions.key_blocks.';

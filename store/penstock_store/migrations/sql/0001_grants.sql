REVOKE ALL ON ALL FUNCTIONS IN SCHEMA penstock FROM PUBLIC;

GRANT USAGE ON SCHEMA penstock TO penstock_writer, penstock_reader, penstock_retention, penstock_registry;

GRANT SELECT, INSERT ON penstock.events TO penstock_writer;

GRANT SELECT ON penstock.events TO penstock_reader, penstock_retention;

GRANT SELECT ON penstock.partitions, penstock.prints, penstock.key_prints, penstock.settings, penstock.high_water, penstock.offsets, penstock.ingested
    TO penstock_writer, penstock_reader, penstock_retention;

GRANT INSERT, UPDATE ON penstock.offsets TO penstock_writer;

GRANT EXECUTE ON FUNCTION penstock.safe_sequence(), penstock.events_by_id(uuid, bigint, bigint, boolean), penstock.rare_events(text[], text, text, bigint),
    penstock.payload_hash(text, jsonb), penstock.payload_probe()
    TO penstock_writer, penstock_reader, penstock_retention;

GRANT EXECUTE ON FUNCTION penstock.publish(), penstock.roll(), penstock.ensure_partitions(integer)
    TO penstock_writer, penstock_retention;

GRANT EXECUTE ON FUNCTION
    penstock.begin_write(text, text[], text[], text[], integer[], bigint[], bigint[], bigint[], integer[], integer, interval, text, text, boolean),
    penstock.finish_write(text, text[], text[], text[], integer[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], text)
    TO penstock_writer;

GRANT EXECUTE ON FUNCTION
    penstock.guard_replay(text, text[], text[], text[], integer[], bigint[], bigint[]),
    penstock.reopen_expired(text, text, text, text, integer, bigint)
    TO penstock_writer;

GRANT SELECT, INSERT, UPDATE ON penstock.replays TO penstock_writer;

GRANT SELECT ON penstock.replays TO penstock_reader;

GRANT EXECUTE ON FUNCTION
    penstock.append_events(uuid[], text[], timestamptz[], text[], text[], text[], text[], text[], text[], integer[], text[], bytea[], text[], text[], bigint, boolean)
    TO penstock_writer;

GRANT EXECUTE ON FUNCTION penstock.prepare_import(timestamptz), penstock.begin_import(bigint, timestamptz), penstock.finish_import()
    TO penstock_writer;

GRANT SELECT, INSERT, UPDATE ON penstock.snapshots TO penstock_writer;

GRANT SELECT ON penstock.snapshots TO penstock_reader, penstock_retention;

GRANT EXECUTE ON FUNCTION penstock.create_partition(timestamptz), penstock.close_partition(text), penstock.validate_partition(text), penstock.drop_partition(text)
    TO penstock_retention;

GRANT SELECT, INSERT ON penstock.registry_schemas, penstock.registry_versions, penstock.registry_config TO penstock_registry;
GRANT UPDATE ON penstock.registry_config TO penstock_registry;

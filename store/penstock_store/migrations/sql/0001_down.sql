DROP FUNCTION penstock.events_by_id, penstock.rare_events;

DROP TABLE penstock.events;

DROP TABLE penstock.registry_versions, penstock.registry_schemas, penstock.registry_config;

DROP TABLE penstock.snapshots, penstock.checkpoints;

DROP TABLE penstock.replays;

DROP FUNCTION penstock.guard_replay, penstock.reopen_expired;

DROP FUNCTION penstock.append_events, penstock.begin_write, penstock.finish_write, penstock.reserve_sequences, penstock.safe_sequence, penstock.publish;

DROP FUNCTION penstock.begin_import, penstock.finish_import, penstock.prepare_import, penstock.import_time, penstock.last_stored;

DROP FUNCTION penstock.roll(), penstock.roll(timestamptz), penstock.ensure_partitions, penstock.create_partition, penstock.create_leaf_indexes;

DROP FUNCTION penstock.close_partition, penstock.validate_partition, penstock.drop_partition, penstock.take_prints, penstock.take_payload_prints, penstock.payload_probe, penstock.payload_hash, penstock.can_hold, penstock.find_common_tags, penstock.take_key_prints, penstock.key_hash, penstock.key_block;

DROP TABLE penstock.ingested, penstock.offsets, penstock.high_water, penstock.prints, penstock.key_prints, penstock.partitions, penstock.settings;

DROP SEQUENCE penstock.event_sequence;

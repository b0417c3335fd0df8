CREATE TABLE penstock.registry_schemas (
    id          integer GENERATED ALWAYS AS IDENTITY,
    schema      text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT registry_schemas_pkey PRIMARY KEY (id),
    CONSTRAINT registry_schemas_fingerprint_key UNIQUE (fingerprint)
);

-- registry_schemas.fingerprint: SHA-256 of the schema's canonical form, made by the registry: one global id per
-- distinct schema.

CREATE TABLE penstock.registry_versions (
    subject    text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    schema_id  integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT registry_versions_pkey PRIMARY KEY (subject, version),
    CONSTRAINT registry_versions_schema_id_fkey FOREIGN KEY (schema_id) REFERENCES penstock.registry_schemas (id),
    CONSTRAINT registry_versions_version CHECK (version >= 1)
);

CREATE INDEX registry_versions_schema_id ON penstock.registry_versions (schema_id);

CREATE TABLE penstock.registry_config (
    subject       text COLLATE "C" NOT NULL,
    compatibility text COLLATE "C" NOT NULL,
    CONSTRAINT registry_config_pkey PRIMARY KEY (subject),
    CONSTRAINT registry_config_compatibility CHECK (compatibility IN (
        'NONE', 'BACKWARD', 'BACKWARD_TRANSITIVE', 'FORWARD', 'FORWARD_TRANSITIVE', 'FULL', 'FULL_TRANSITIVE'))
);

-- registry_config: Compatibility level by subject; the empty subject is the global one.

INSERT INTO penstock.registry_config (subject, compatibility) VALUES ('', 'BACKWARD');

-- Where each named subscription and projection stands. One owner at a time: a claim raises the epoch, and only the newest
-- epoch moves the row.
CREATE TABLE penstock.checkpoints (
    name          text COLLATE "C" NOT NULL,
    sequence      bigint NOT NULL,
    state         json,
    state_version integer NOT NULL DEFAULT 1,
    epoch         bigint NOT NULL DEFAULT 1,
    owner         text,
    leased_until  timestamptz,
    accepted      bigint NOT NULL DEFAULT 0,
    fault         text,
    saved_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT checkpoints_pkey PRIMARY KEY (name),
    CONSTRAINT checkpoints_sequence CHECK (sequence >= 0),
    CONSTRAINT checkpoints_state_version CHECK (state_version >= 1),
    CONSTRAINT checkpoints_owner CHECK ((owner IS NULL) = (leased_until IS NULL))
) WITH (fillfactor = 50);

-- checkpoints.accepted: What retention had dropped when the checkpoint was made, or when somebody accepted the loss: only
-- events above it are missed. fault: why the last owner stopped.

GRANT SELECT, INSERT, UPDATE, DELETE ON penstock.checkpoints TO penstock_writer;

GRANT SELECT ON penstock.checkpoints TO penstock_reader, penstock_retention;

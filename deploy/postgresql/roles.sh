#!/bin/sh
# Run once by the image when it makes its data directory: group roles, one login for each kind of process, and the
# database. Same names as `penstock up` uses (penstock/stack/_roles.py); a test compares them.
set -eu

psql --set ON_ERROR_STOP=1 --username postgres --dbname postgres \
    --set owner="$PENSTOCK_OWNER_PASSWORD" --set worker="$PENSTOCK_WORKER_PASSWORD" \
    --set reader="$PENSTOCK_READER_PASSWORD" --set retention="$PENSTOCK_RETENTION_PASSWORD" \
    --set registry="$PENSTOCK_REGISTRY_PASSWORD" <<'SQL'
CREATE ROLE penstock_writer NOLOGIN;
CREATE ROLE penstock_reader NOLOGIN;
CREATE ROLE penstock_retention NOLOGIN;
CREATE ROLE penstock_registry NOLOGIN;

CREATE ROLE penstock_owner LOGIN CREATEROLE CREATEDB PASSWORD :'owner';
CREATE ROLE penstock_worker LOGIN PASSWORD :'worker' IN ROLE penstock_writer;
CREATE ROLE penstock_read_only LOGIN PASSWORD :'reader' IN ROLE penstock_reader;
CREATE ROLE penstock_retention_worker LOGIN PASSWORD :'retention' IN ROLE penstock_retention;
CREATE ROLE penstock_schema_registry LOGIN PASSWORD :'registry' IN ROLE penstock_registry;

GRANT penstock_writer, penstock_reader, penstock_retention, penstock_registry TO penstock_owner WITH ADMIN OPTION;
GRANT pg_signal_backend, pg_monitor TO penstock_owner WITH ADMIN OPTION;
CREATE DATABASE penstock OWNER penstock_owner;
SQL

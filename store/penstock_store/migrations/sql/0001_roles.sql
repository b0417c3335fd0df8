-- Group roles (NOLOGIN) that logins are granted. Roles belong to the whole cluster, so another database's migration
-- may be creating the same one at this moment, and a downgrade leaves them in place.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['penstock_writer', 'penstock_reader', 'penstock_retention', 'penstock_registry'] LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role "%" does not exist and "%" may not create it', wanted, current_user
                    USING ERRCODE = 'insufficient_privilege',
                    HINT = 'Migrate as a role with CREATEROLE, or have an administrator run: '
                        'CREATE ROLE penstock_writer NOLOGIN; CREATE ROLE penstock_reader NOLOGIN; '
                        'CREATE ROLE penstock_retention NOLOGIN; CREATE ROLE penstock_registry NOLOGIN;';
        END;
    END LOOP;
END
$$;

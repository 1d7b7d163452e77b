-- +goose Up
-- Roles belong to the whole server, so another database of it may have made them already, at this very moment too.
-- +goose StatementBegin
DO $$
DECLARE r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['caly_operator LOGIN', 'caly_dataplane LOGIN', 'caly_upload NOLOGIN'] LOOP
        BEGIN
            EXECUTE 'CREATE ROLE ' || r;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END $$;
-- +goose StatementEnd

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO caly_operator, caly_dataplane, caly_upload;
-- A server that is run with care lets nobody in by default. Roles of upload pods get this by their group.
-- +goose StatementBegin
DO $$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO caly_operator, caly_dataplane, caly_upload', current_database());
END $$;
-- +goose StatementEnd

-- +goose Down
REVOKE ALL ON SCHEMA public FROM caly_operator, caly_dataplane, caly_upload;

-- +goose Up
-- The tenant that the login role of this connection is bound to; NULL for any other. session_user, since no SET ROLE changes it.
-- +goose StatementBegin
CREATE FUNCTION caly_upload_tenant() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS
$$ SELECT tenant FROM public.upload_roles WHERE role = session_user $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_upload_tenant() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_upload_tenant() TO caly_upload;

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tenants', 'calls', 'call_events', 'recordings', 'recording_history'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY operator ON %I TO caly_operator USING (true) WITH CHECK (true)', t);
        EXECUTE format($p$CREATE POLICY dataplane ON %I TO caly_dataplane
            USING (tenant = current_setting('caly.tenant', true)) WITH CHECK (tenant = current_setting('caly.tenant', true))$p$, t);
        EXECUTE format($p$CREATE POLICY upload ON %I TO caly_upload
            USING (tenant = (SELECT caly_upload_tenant())) WITH CHECK (tenant = (SELECT caly_upload_tenant()))$p$, t);
    END LOOP;
END $$;
-- +goose StatementEnd

GRANT SELECT, INSERT, UPDATE, DELETE ON tenants, calls, call_events, recordings, recording_history TO caly_operator;
GRANT SELECT ON upload_roles TO caly_operator;

GRANT SELECT, INSERT, UPDATE ON calls TO caly_dataplane;
GRANT SELECT, INSERT ON call_events, recordings TO caly_dataplane;

GRANT SELECT ON tenants TO caly_upload;
GRANT SELECT, DELETE ON recordings TO caly_upload;
GRANT UPDATE (available_at, lease_owner, lease_until, attempts, upload_started_at, last_error_code, last_error) ON recordings TO caly_upload;
GRANT SELECT, INSERT ON recording_history TO caly_upload;

-- Roles are server-wide, so their names carry a digest of database and tenant.
-- +goose StatementBegin
CREATE FUNCTION caly_upload_role_name(for_tenant text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, public AS
$$ SELECT 'caly_upload_' || left(encode(sha256(convert_to(current_database() || '/' || for_tenant, 'UTF8')), 'hex'), 16) $$;
-- +goose StatementEnd

-- Takes a SCRAM verifier, never a password: what is in a statement may end up in a log.
-- +goose StatementBegin
CREATE FUNCTION caly_ensure_upload_role(for_tenant text, verifier text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS
$$
DECLARE r text := public.caly_upload_role_name(for_tenant);
BEGIN
    IF verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' THEN
        RAISE EXCEPTION 'the verifier is not a SCRAM-SHA-256 verifier';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('caly_upload_role', 0));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
        EXECUTE format('CREATE ROLE %I LOGIN CONNECTION LIMIT 512 IN ROLE caly_upload', r);
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L', r, verifier);
    INSERT INTO public.upload_roles (role, tenant) VALUES (r, for_tenant) ON CONFLICT (role) DO NOTHING;
    RETURN r;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION caly_drop_upload_role(for_tenant text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS
$$
DECLARE r text := public.caly_upload_role_name(for_tenant);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('caly_upload_role', 0));
    DELETE FROM public.upload_roles WHERE tenant = for_tenant;
    EXECUTE format('DROP ROLE IF EXISTS %I', r);
END $$;
-- +goose StatementEnd

-- Partitions of the coming months; rows outside any go to the default partition.
-- +goose StatementBegin
CREATE FUNCTION caly_ensure_history_partitions(months integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS
$$
DECLARE
    first date := date_trunc('month', now())::date;
    part  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('caly_history_partitions', 0));
    FOR i IN 1..least(greatest(months, 1), 24) LOOP
        first := (first + interval '1 month')::date;
        part := 'recording_history_' || to_char(first, 'YYYYMM');
        IF to_regclass('public.' || part) IS NULL THEN
            EXECUTE format('CREATE TABLE public.%I PARTITION OF public.recording_history FOR VALUES FROM (%L) TO (%L)',
                part, first, (first + interval '1 month')::date);
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_ensure_upload_role(text, text), caly_drop_upload_role(text), caly_upload_role_name(text),
    caly_ensure_history_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_ensure_upload_role(text, text), caly_drop_upload_role(text), caly_upload_role_name(text),
    caly_ensure_history_partitions(integer) TO caly_operator;
GRANT SELECT ON goose_db_version TO caly_operator, caly_dataplane, caly_upload;

-- +goose Down
DROP FUNCTION caly_ensure_history_partitions(integer), caly_drop_upload_role(text), caly_ensure_upload_role(text, text), caly_upload_role_name(text);
DROP FUNCTION caly_upload_tenant() CASCADE;

-- +goose Up
-- A function that names no place for pg_temp searches it first, for tables and types. A caller that may make
-- temporary objects could put its own in front of those that the function means. Functions without any setting are
-- left alone: they name no table, and PostgreSQL puts their text into the statement that calls them, which a setting
-- would prevent.
-- +goose StatementBegin
DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'caly\_%'
            AND (prosecdef OR proconfig IS NOT NULL) LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, public, pg_temp', f);
    END LOOP;
END $$;
-- +goose StatementEnd

-- Bounds an upload role: its connections, and what one of them may do at most. A connection can set other timeouts
-- for itself.
-- +goose StatementBegin
CREATE FUNCTION caly_bound_upload_role(r text, connections integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE
    has  record;
    most integer := least(greatest(connections, 4), 512);
BEGIN
    SELECT rolconnlimit, coalesce(rolconfig, '{}') AS config INTO has FROM pg_roles WHERE rolname = r;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF has.rolconnlimit <> most THEN
        EXECUTE format('ALTER ROLE %I CONNECTION LIMIT %s', r, most);
    END IF;
    IF NOT has.config @> ARRAY['statement_timeout=15s', 'idle_in_transaction_session_timeout=15s', 'lock_timeout=10s',
            'search_path=pg_catalog, public, pg_temp'] THEN
        EXECUTE format('ALTER ROLE %I SET statement_timeout = ''15s''', r);
        EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = ''15s''', r);
        EXECUTE format('ALTER ROLE %I SET lock_timeout = ''10s''', r);
        EXECUTE format('ALTER ROLE %I SET search_path = pg_catalog, public, pg_temp', r);
    END IF;
END $$;
-- +goose StatementEnd

-- The operator says how many connections a tenant's upload pods need. A role that does not exist yet is bounded when
-- it is made.
-- +goose StatementBegin
CREATE FUNCTION caly_limit_upload_role(for_tenant text, connections integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('caly_upload_role', 0));
    PERFORM public.caly_bound_upload_role(public.caly_upload_role_name(for_tenant), connections);
END $$;
-- +goose StatementEnd

-- As before, but for the bounds of a new role: enough for 64 upload pods, until the operator says how many the tenant
-- has.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION caly_ensure_upload_role(for_tenant text, verifier text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE r text := public.caly_upload_role_name(for_tenant);
BEGIN
    IF verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' THEN
        RAISE EXCEPTION 'the verifier is not a SCRAM-SHA-256 verifier';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('caly_upload_role', 0));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
        EXECUTE format('CREATE ROLE %I LOGIN IN ROLE caly_upload', r);
        PERFORM public.caly_bound_upload_role(r, 264);
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L', r, verifier);
    INSERT INTO public.upload_roles (role, tenant) VALUES (r, for_tenant) ON CONFLICT (role) DO NOTHING;
    RETURN r;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_bound_upload_role(text, integer), caly_limit_upload_role(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_limit_upload_role(text, integer) TO caly_operator;

-- Roles that exist. The operator's next reconcile lowers the number of connections to what the tenant needs.
-- +goose StatementBegin
DO $$
DECLARE r text;
BEGIN
    FOR r IN SELECT role FROM upload_roles LOOP
        BEGIN
            PERFORM caly_bound_upload_role(r, 264);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'role % keeps its connection limit and has no timeouts: % may not alter it, and needs ADMIN OPTION on it',
                r, current_user;
        END;
    END LOOP;
END $$;
-- +goose StatementEnd

-- Only Caly's roles connect, and they make no temporary tables. Where the database belongs to another role, its owner
-- has to do this.
-- +goose StatementBegin
DO $$
DECLARE
    db     text := current_database();
    before text[];
    after  text[];
    by_all text := 'SELECT coalesce(array_agg(a.privilege_type::text), ''{}'') FROM pg_database d,
        aclexplode(coalesce(d.datacl, acldefault(''d'', d.datdba))) a
        WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type IN (''CONNECT'', ''TEMPORARY'')';
BEGIN
    EXECUTE by_all INTO before;
    IF cardinality(before) = 0 THEN
        RETURN;
    END IF;
    BEGIN
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I, caly_operator, caly_dataplane, caly_upload', db, current_user);
        EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', db);
    EXCEPTION WHEN insufficient_privilege THEN
        NULL; -- reported below
    END;
    EXECUTE by_all INTO after;
    IF cardinality(after) > 0 THEN
        RAISE WARNING 'every role of the server may use database %: let its owner run: REVOKE CONNECT, TEMPORARY ON DATABASE % FROM PUBLIC',
            db, quote_ident(db);
    ELSE
        RAISE WARNING 'only Caly''s roles may connect to database % from now on; others, such as monitoring, need: GRANT CONNECT ON DATABASE % TO role',
            db, quote_ident(db);
    END IF;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION caly_limit_upload_role(text, integer);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION caly_ensure_upload_role(for_tenant text, verifier text) RETURNS text
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
DROP FUNCTION caly_bound_upload_role(text, integer);

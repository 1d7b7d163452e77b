-- +goose Up
-- From PostgreSQL 16 on, CREATEROLE alone lets a role alter, drop and grant only what it has ADMIN OPTION on. The
-- creator of a role gets it; a dump of an earlier version does not have it, and may have lost memberships: the new
-- server rejects a GRANT whose grantor has no ADMIN OPTION.
--
-- Repairs what the owner of this function may, and returns a sentence for each thing that an administrator has to do.
-- "caly migrate up" calls it each time, and the operator at its start.
-- +goose StatementBegin
CREATE FUNCTION caly_repair_roles() RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE
    since16 boolean := current_setting('server_version_num')::integer >= 160000;
    is_super boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    -- The roles of this database's tenants that exist.
    tenants name[] := ARRAY(SELECT r.rolname FROM public.upload_roles u JOIN pg_roles r ON r.rolname = u.role ORDER BY 1);
    missing text;
    r       name;
BEGIN
    IF NOT is_super AND NOT (SELECT rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
        RETURN NEXT format('%I may not create roles for tenants; let a superuser run: ALTER ROLE %I CREATEROLE', current_user, current_user);
    END IF;

    SELECT string_agg(quote_ident(m), ', ' ORDER BY m) INTO missing FROM unnest('caly_upload'::name || tenants) m
        WHERE since16 AND NOT is_super AND NOT pg_has_role(current_user, m, 'MEMBER WITH ADMIN OPTION');
    IF missing IS NOT NULL THEN
        RETURN NEXT format('%I may not alter, drop or grant roles of tenants; let a superuser run: '
            'GRANT %s TO %I WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', current_user, missing, current_user);
    END IF;

    FOREACH r IN ARRAY tenants LOOP
        BEGIN
            PERFORM public.caly_repair_upload_role(r);
        EXCEPTION WHEN insufficient_privilege THEN
            IF missing IS NULL THEN -- otherwise the grant above is what it needs
                RETURN NEXT format('%I may not alter role %I: %s', current_user, r, SQLERRM);
            END IF;
        END;
    END LOOP;

    FOREACH r IN ARRAY ARRAY['caly_operator', 'caly_dataplane']::name[] LOOP
        BEGIN
            PERFORM public.caly_default_timeouts(r);
        EXCEPTION WHEN insufficient_privilege THEN
            NULL; -- only connections through a pooler need it, and report it
        END;
    END LOOP;

    SELECT string_agg(quote_ident(m), ', ') INTO missing
        FROM unnest(ARRAY['caly_operator', 'caly_dataplane', 'caly_upload']) m
        WHERE NOT has_database_privilege(m, current_database(), 'CONNECT');
    IF missing IS NOT NULL THEN
        BEGIN
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %s', current_database(), missing);
        EXCEPTION WHEN insufficient_privilege THEN
            RETURN NEXT format('%s may not connect; let the owner of the database run: GRANT CONNECT ON DATABASE %I TO %s',
                missing, current_database(), missing);
        END;
    END IF;
END $$;
-- +goose StatementEnd

-- Makes a tenant's role a member of caly_upload again, with what caly_upload may do, and bounds it.
-- +goose StatementBegin
CREATE FUNCTION caly_repair_upload_role(r name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    IF NOT pg_has_role(r, 'caly_upload', 'USAGE') THEN
        IF current_setting('server_version_num')::integer >= 160000 THEN
            EXECUTE format('GRANT caly_upload TO %I WITH INHERIT TRUE', r);
        ELSE
            EXECUTE format('ALTER ROLE %I INHERIT', r);
            EXECUTE format('GRANT caly_upload TO %I', r);
        END IF;
    END IF;
    PERFORM public.caly_bound_upload_role(r, (SELECT CASE WHEN rolconnlimit < 0 THEN 264 ELSE rolconnlimit END
        FROM pg_roles WHERE rolname = r));
END $$;
-- +goose StatementEnd

-- A pooler cannot pass on the timeouts that a program asks for, so a role has its own. One that has some keeps them.
-- +goose StatementBegin
CREATE FUNCTION caly_default_timeouts(r name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE
    config text := coalesce((SELECT array_to_string(rolconfig, ' ') FROM pg_roles WHERE rolname = r), '');
BEGIN
    IF config !~ '(^| )statement_timeout=' THEN
        EXECUTE format('ALTER ROLE %I SET statement_timeout = ''15s''', r);
    END IF;
    IF config !~ '(^| )idle_in_transaction_session_timeout=' THEN
        EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = ''15s''', r);
    END IF;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_repair_roles(), caly_repair_upload_role(name), caly_default_timeouts(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_repair_roles() TO caly_operator;

-- +goose Down
DROP FUNCTION caly_repair_roles(), caly_repair_upload_role(name), caly_default_timeouts(name);

-- +goose Up
-- Lost in a crash of PostgreSQL, which is no harm, and cheaper to write. No index covers what an update changes.
CREATE UNLOGGED TABLE rate_limits (
    tenant     text NOT NULL,
    key        bytea NOT NULL CHECK (length(key) = 32),
    hits       timestamptz[] NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE rate_limits IS 'The times of the tries that were let through and still count. The key is a keyed hash of the limit''s name and what is limited.';

-- Grants as many of the wanted hits as there is room for under a limit of p_max in any window. One that is refused does not count,
-- and writes nothing. free_in is when the next one falls off.
-- +goose StatementBegin
CREATE FUNCTION caly_take_hits(p_tenant text, p_key bytea, p_wanted integer, p_max integer, p_window interval,
    OUT granted integer, OUT used integer, OUT free_in interval)
    LANGUAGE plpgsql SET search_path = pg_catalog, public AS
$$
DECLARE
    kept timestamptz[];
    at   timestamptz;
BEGIN
    LOOP
        SELECT hits INTO kept FROM public.rate_limits WHERE tenant = p_tenant AND key = p_key FOR UPDATE;
        at := clock_timestamp(); -- with the row locked: whoever comes later reads a later time
        EXIT WHEN FOUND;
        granted := least(p_wanted, p_max);
        used := granted;
        free_in := p_window;
        INSERT INTO public.rate_limits (tenant, key, hits, expires_at)
            VALUES (p_tenant, p_key, array_fill(at, ARRAY[granted]), at + p_window) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;
    kept := ARRAY(SELECT h FROM unnest(kept) AS h WHERE h > at - p_window ORDER BY h);
    granted := least(p_wanted, greatest(p_max - cardinality(kept), 0));
    IF granted > 0 THEN
        kept := kept || array_fill(at, ARRAY[granted]);
        UPDATE public.rate_limits SET hits = kept, expires_at = at + p_window WHERE tenant = p_tenant AND key = p_key;
    END IF;
    used := cardinality(kept);
    -- Where the limit was lowered, several fall off before there is room.
    free_in := kept[greatest(used - p_max + 1, 1)] + p_window - at;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_take_hits(text, bytea, integer, integer, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_take_hits(text, bytea, integer, integer, interval) TO caly_dataplane;

CREATE TABLE mail_outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant       text NOT NULL,
    event_key    text NOT NULL CHECK (length(event_key) BETWEEN 1 AND 200),
    template     text NOT NULL CHECK (length(template) BETWEEN 1 AND 64),
    recipient    text NOT NULL,
    sealed       bytea NOT NULL,
    state        text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'sent', 'failed', 'uncertain')),
    attempts     integer NOT NULL DEFAULT 0,
    available_at timestamptz NOT NULL DEFAULT now(),
    lease_owner  text,
    lease_until  timestamptz,
    last_error   text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    finished_at  timestamptz,
    UNIQUE (tenant, event_key)
);
CREATE INDEX mail_outbox_due ON mail_outbox (available_at, id) WHERE state IN ('pending', 'sending');
COMMENT ON TABLE mail_outbox IS 'Mail, written in the transaction of the change that it tells of. What is sealed (codes, links) is encrypted under a key that is not in this database, and emptied once sent.';

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['rate_limits', 'mail_outbox'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY operator ON %I TO caly_operator USING (true) WITH CHECK (true)', t);
        EXECUTE format($p$CREATE POLICY dataplane ON %I TO caly_dataplane
            USING (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')))
            WITH CHECK (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')))$p$, t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO caly_operator', t);
    END LOOP;
END $$;
-- +goose StatementEnd
GRANT SELECT, INSERT, UPDATE, DELETE ON rate_limits TO caly_dataplane;
GRANT SELECT, INSERT, UPDATE ON mail_outbox TO caly_dataplane;

-- +goose Down
DROP FUNCTION caly_take_hits(text, bytea, integer, integer, interval);
DROP TABLE mail_outbox, rate_limits;

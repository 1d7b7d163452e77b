-- +goose Up
-- The span that queued a recording, so that its upload is part of the same trace. NULL without a sampled trace, and after a retry of a
-- recording that failed.
ALTER TABLE recordings ADD COLUMN traceparent text CHECK (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-01$');
COMMENT ON COLUMN recordings.traceparent IS 'The span that queued the recording, as W3C Trace Context writes it; NULL if it is not sampled.';
GRANT UPDATE (traceparent) ON recordings TO caly_dataplane;

-- Adds spans to recordings that this transaction queued. A recording that was queued before keeps what it has.
CREATE FUNCTION caly_add_traces(p_tenant text[], p_id text[], p_traceparent text[]) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, public, pg_temp AS
$$
    UPDATE public.recordings r SET traceparent = t.traceparent
        FROM unnest(p_tenant, p_id, p_traceparent) AS t(tenant, id, traceparent)
        WHERE r.tenant = t.tenant AND r.id = t.id AND r.xmin = pg_current_xact_id()::xid
$$;
REVOKE ALL ON FUNCTION caly_add_traces(text[], text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_add_traces(text[], text[], text[]) TO caly_dataplane, caly_operator;

-- +goose Down
DROP FUNCTION caly_add_traces(text[], text[], text[]);
ALTER TABLE recordings DROP COLUMN traceparent;

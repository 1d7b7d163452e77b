-- +goose Up
-- What ended, for the operator's metrics. A trigger adds a row for each recording, capture and stream session that ends, in the
-- transaction that ends it. The operator that leads moves rows to ending_totals, in one transaction. So each end counts once,
-- whichever version of a program wrote it, and a new leader continues where the last one stopped.
-- Only the triggers write rows: a pod that could would choose their ids, and stop the ends of all tenants. A trigger must never fail,
-- since the end fails with it: so the table has no bounds, and the triggers cut what they store.
CREATE TABLE endings (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text NOT NULL,
    tenant   text NOT NULL,
    call_sid text NOT NULL,
    outcome  text NOT NULL,
    code     text NOT NULL,
    since    timestamptz NOT NULL,
    ended_at timestamptz NOT NULL
);
COMMENT ON TABLE endings IS 'Recordings, captures and stream sessions that ended and are not in ending_totals yet. Only triggers add rows.';
COMMENT ON COLUMN endings.since IS 'When the row that ended was created: for a recording whose call has no known end, its duration begins here.';
ALTER TABLE endings ENABLE ROW LEVEL SECURITY;
CREATE POLICY operator ON endings TO caly_operator USING (true) WITH CHECK (true);
GRANT SELECT, UPDATE, DELETE ON endings TO caly_operator;

CREATE TABLE ending_totals (
    kind    text NOT NULL,
    tenant  text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    outcome text NOT NULL,
    code    text NOT NULL,
    count   bigint NOT NULL,
    seconds double precision NOT NULL,
    bounds  double precision[] NOT NULL,
    buckets bigint[] NOT NULL,
    PRIMARY KEY (kind, tenant, outcome, code)
);
COMMENT ON TABLE ending_totals IS 'Totals of endings since this table exists. A total falls only when its tenant is deleted or loses its series.';
COMMENT ON COLUMN ending_totals.tenant IS 'The tenant, or "other" for those that have no series of their own.';
COMMENT ON COLUMN ending_totals.buckets IS 'How many took at most as long as each of bounds, without those of the bound before. Longer ones are in count only.';
ALTER TABLE ending_totals ENABLE ROW LEVEL SECURITY;
ALTER TABLE ending_totals FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON ending_totals TO caly_operator USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON ending_totals TO caly_operator;

CREATE TABLE metric_tenants (
    tenant text PRIMARY KEY CHECK (length(tenant) BETWEEN 3 AND 128)
);
COMMENT ON TABLE metric_tenants IS 'Tenants that have series of their own in the operator''s metrics. A tenant keeps its place until it is deleted, so that no counter falls.';
ALTER TABLE metric_tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE metric_tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON metric_tenants TO caly_operator USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON metric_tenants TO caly_operator;

-- +goose StatementBegin
CREATE FUNCTION caly_finite(at timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, public, pg_temp AS
$$ SELECT greatest(least(at, now()), now() - interval '10 years') $$;

CREATE FUNCTION caly_recording_ended() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    INSERT INTO public.endings (kind, tenant, call_sid, outcome, code, since, ended_at)
        VALUES ('recording', NEW.tenant, left(NEW.call_sid, 128), NEW.state, left(NEW.last_error_code, 40),
            public.caly_finite(NEW.created_at), public.caly_finite(NEW.finished_at));
    RETURN NULL;
END $$;

CREATE FUNCTION caly_capture_ended() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    INSERT INTO public.endings (kind, tenant, call_sid, outcome, code, since, ended_at)
        VALUES ('capture', NEW.tenant, left(NEW.call_sid, 128), NEW.state, left(NEW.error_code, 40),
            public.caly_finite(NEW.created_at), public.caly_finite(NEW.finished_at));
    RETURN NULL;
END $$;

CREATE FUNCTION caly_stream_ended() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    INSERT INTO public.endings (kind, tenant, call_sid, outcome, code, since, ended_at)
        VALUES ('stream', NEW.tenant, left(NEW.call_sid, 128), left(NEW.end_reason, 40), '',
            public.caly_finite(NEW.started_at), public.caly_finite(NEW.ended_at));
    RETURN NULL;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_finite(timestamptz), caly_recording_ended(), caly_capture_ended(), caly_stream_ended() FROM PUBLIC;

CREATE TRIGGER ended AFTER INSERT ON recording_history FOR EACH ROW EXECUTE FUNCTION caly_recording_ended();
CREATE TRIGGER ended AFTER UPDATE OF finished_at ON captures FOR EACH ROW
    WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL) EXECUTE FUNCTION caly_capture_ended();
CREATE TRIGGER ended_at_once AFTER INSERT ON captures FOR EACH ROW
    WHEN (NEW.finished_at IS NOT NULL) EXECUTE FUNCTION caly_capture_ended();
CREATE TRIGGER ended AFTER UPDATE OF ended_at ON stream_sessions FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION caly_stream_ended();
CREATE TRIGGER ended_at_once AFTER INSERT ON stream_sessions FOR EACH ROW
    WHEN (NEW.ended_at IS NOT NULL) EXECUTE FUNCTION caly_stream_ended();

-- Counts the failed recordings by tenant and code. Where the history is large, make this index on each partition
-- beforehand, CONCURRENTLY: the build keeps writers waiting.
CREATE INDEX IF NOT EXISTS recording_history_failed ON recording_history (tenant, last_error_code) WHERE state = 'failed';

-- +goose Down
DROP INDEX recording_history_failed;
DROP TRIGGER ended ON recording_history;
DROP TRIGGER ended ON captures;
DROP TRIGGER ended_at_once ON captures;
DROP TRIGGER ended ON stream_sessions;
DROP TRIGGER ended_at_once ON stream_sessions;
DROP FUNCTION caly_recording_ended(), caly_capture_ended(), caly_stream_ended(), caly_finite(timestamptz);
DROP TABLE metric_tenants, ending_totals, endings;

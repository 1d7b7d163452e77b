-- +goose Up
-- What ended, for the operator's metrics. A trigger adds a row for each recording, capture and stream session that ends, in the
-- transaction that ends it. The operator that leads moves rows to ending_totals, in one transaction. So each end counts once,
-- whichever version of a program wrote it, and a new leader continues where the last one stopped.
CREATE TABLE endings (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text NOT NULL CHECK (kind IN ('recording', 'capture', 'stream')),
    tenant   text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    call_sid text NOT NULL,
    outcome  text NOT NULL,
    code     text NOT NULL,
    since    timestamptz NOT NULL,
    ended_at timestamptz NOT NULL
);
COMMENT ON TABLE endings IS 'Recordings, captures and stream sessions that ended and are not in ending_totals yet.';
COMMENT ON COLUMN endings.since IS 'When the row that ended was created: for a recording whose call has no known end, its duration begins here.';
ALTER TABLE endings ENABLE ROW LEVEL SECURITY;
ALTER TABLE endings FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON endings TO caly_operator USING (true) WITH CHECK (true);
CREATE POLICY upload ON endings TO caly_upload
    USING (tenant = (SELECT caly_upload_tenant())) WITH CHECK (tenant = (SELECT caly_upload_tenant()));
CREATE POLICY dataplane ON endings TO caly_dataplane
    USING (tenant = ANY ((SELECT string_to_array(current_setting('caly.tenant', true), ','))::text[]))
    WITH CHECK (tenant = ANY ((SELECT string_to_array(current_setting('caly.tenant', true), ','))::text[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON endings TO caly_operator;
GRANT INSERT ON endings TO caly_upload, caly_dataplane;

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
COMMENT ON TABLE ending_totals IS 'Totals of endings since the installation began; they never fall.';
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
CREATE FUNCTION caly_recording_ended() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    INSERT INTO public.endings (kind, tenant, call_sid, outcome, code, since, ended_at)
        VALUES ('recording', NEW.tenant, NEW.call_sid, NEW.state, NEW.last_error_code, NEW.created_at, NEW.finished_at);
    RETURN NULL;
END $$;

CREATE FUNCTION caly_capture_ended() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    INSERT INTO public.endings (kind, tenant, call_sid, outcome, code, since, ended_at)
        VALUES ('capture', NEW.tenant, NEW.call_sid, NEW.state, NEW.error_code, NEW.created_at, NEW.finished_at);
    RETURN NULL;
END $$;

CREATE FUNCTION caly_stream_ended() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    INSERT INTO public.endings (kind, tenant, call_sid, outcome, code, since, ended_at)
        VALUES ('stream', NEW.tenant, NEW.call_sid, NEW.end_reason, '', NEW.started_at, NEW.ended_at);
    RETURN NULL;
END $$;
-- +goose StatementEnd

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
DROP FUNCTION caly_recording_ended(), caly_capture_ended(), caly_stream_ended();
DROP TABLE metric_tenants, ending_totals, endings;

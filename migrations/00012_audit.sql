-- +goose Up
CREATE TABLE audit_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    action     text NOT NULL CHECK (length(action) BETWEEN 1 AND 64),
    outcome    text NOT NULL CHECK (outcome IN ('success', 'failure')),
    actor_id   uuid,
    subject    text NOT NULL DEFAULT '' CHECK (length(subject) <= 254),
    session_id uuid,
    address    inet,
    device     text NOT NULL DEFAULT '' CHECK (length(device) <= 256),
    reason     text NOT NULL DEFAULT '' CHECK (length(reason) <= 200),
    request_id text NOT NULL DEFAULT '' CHECK (length(request_id) <= 64)
);
CREATE INDEX audit_log_listed ON audit_log (tenant, at DESC, id DESC);
COMMENT ON TABLE audit_log IS 'Security events of a tenant: who, what, from where, with which outcome. It holds no secret, and nobody changes a row.';
COMMENT ON COLUMN audit_log.subject IS 'The email of the account that it is about, as far as one was given.';

ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON audit_log TO caly_operator USING (true) WITH CHECK (true);
CREATE POLICY dataplane ON audit_log TO caly_dataplane
    USING (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')))
    WITH CHECK (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')));
GRANT SELECT, INSERT, DELETE ON audit_log TO caly_operator;
GRANT SELECT, INSERT ON audit_log TO caly_dataplane;

-- Lists of calls and recordings, newest first, one page after another.
CREATE INDEX calls_listed ON calls (tenant, created_at DESC, call_sid DESC);
CREATE INDEX recordings_listed ON recordings (tenant, created_at DESC, id DESC);
CREATE INDEX recording_history_listed ON recording_history (tenant, created_at DESC, id DESC);
-- What a tenant has uploaded this month is summed up from this index alone.
CREATE INDEX recording_history_uploaded ON recording_history (tenant, finished_at) INCLUDE (size) WHERE state = 'uploaded';
GRANT SELECT ON recording_history TO caly_dataplane;

-- +goose Down
REVOKE SELECT ON recording_history FROM caly_dataplane;
DROP INDEX recording_history_uploaded, recording_history_listed, recordings_listed, calls_listed;
DROP TABLE audit_log;

-- +goose Up
-- Recordings whose source URL had a query, which may be a signature that opens the audio to anyone. The operator removes
-- the query from the events and streams of the call after the upload, and again later: deliveries may come late.
CREATE TABLE url_redactions (
    tenant   text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    call_sid text NOT NULL,
    source   text NOT NULL,
    due_at   timestamptz NOT NULL DEFAULT now(),
    passes   smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, call_sid, source)
);
CREATE INDEX url_redactions_due ON url_redactions (due_at);
COMMENT ON COLUMN url_redactions.source IS 'The URL without its query.';
ALTER TABLE url_redactions ENABLE ROW LEVEL SECURITY;
ALTER TABLE url_redactions FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON url_redactions TO caly_operator USING (true) WITH CHECK (true);
CREATE POLICY upload ON url_redactions TO caly_upload
    USING (tenant = (SELECT caly_upload_tenant())) WITH CHECK (tenant = (SELECT caly_upload_tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON url_redactions TO caly_operator;
GRANT INSERT ON url_redactions TO caly_upload;

-- What was uploaded before. FORCE binds the owner, who runs migrations, too.
ALTER TABLE url_redactions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE recording_history NO FORCE ROW LEVEL SECURITY;
INSERT INTO url_redactions (tenant, call_sid, source)
    SELECT tenant, call_sid, split_part(source_url, '?', 1) FROM recording_history
    WHERE state = 'uploaded' AND source_url LIKE '%?%' ON CONFLICT DO NOTHING;
UPDATE recording_history SET source_url = split_part(source_url, '?', 1)
    WHERE state = 'uploaded' AND source_url LIKE '%?%';
ALTER TABLE recording_history FORCE ROW LEVEL SECURITY;
ALTER TABLE url_redactions FORCE ROW LEVEL SECURITY;

-- +goose Down
DROP TABLE url_redactions;

-- +goose Up
CREATE TABLE captures (
    tenant       text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    id           text NOT NULL CHECK (id ~ '^[0-9a-f]{16}$'),
    session      uuid NOT NULL,
    call_sid     text NOT NULL DEFAULT '' CHECK (length(call_sid) <= 128),
    pod          text NOT NULL CHECK (length(pod) BETWEEN 1 AND 253),
    state        text NOT NULL CHECK (state IN ('recording', 'uploaded', 'failed')),
    bucket       text NOT NULL DEFAULT '',
    object_key   text NOT NULL DEFAULT '',
    upload_id    text NOT NULL DEFAULT '' CHECK (length(upload_id) <= 2048),
    size         bigint NOT NULL DEFAULT 0,
    sha256       text NOT NULL DEFAULT '' CHECK (length(sha256) IN (0, 64)),
    error_code   text NOT NULL DEFAULT '' CHECK (length(error_code) <= 40),
    error        text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    PRIMARY KEY (tenant, id),
    CHECK ((state = 'recording') = (finished_at IS NULL)),
    CHECK (state = 'failed' OR (bucket <> '' AND object_key <> ''))
) WITH (fillfactor = 80);
-- None of these has a column that a heartbeat changes.
CREATE INDEX captures_listed ON captures (tenant, created_at DESC, id DESC);
CREATE INDEX captures_call ON captures (tenant, call_sid);
CREATE INDEX captures_open ON captures (tenant) WHERE state = 'recording';
COMMENT ON TABLE captures IS 'A row for each audio stream that was recorded here, both sides of it: while its state is recording, its pod says every few seconds that it has it.';
COMMENT ON COLUMN captures.pod IS 'Who brings it to the bucket. Another pod takes it over once nothing was heard of it for a while.';
COMMENT ON COLUMN captures.upload_id IS 'The upload in parts that was begun for it.';
COMMENT ON COLUMN captures.error_code IS 'Of a failed one, why; of an uploaded one, why it ends before its call did.';

ALTER TABLE captures ENABLE ROW LEVEL SECURITY;
ALTER TABLE captures FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON captures TO caly_operator USING (true) WITH CHECK (true);
-- A pod asks for all its tenants at once: the list is taken apart once, not for each row.
CREATE POLICY dataplane ON captures TO caly_dataplane
    USING (tenant = ANY ((SELECT string_to_array(current_setting('caly.tenant', true), ','))::text[]))
    WITH CHECK (tenant = ANY ((SELECT string_to_array(current_setting('caly.tenant', true), ','))::text[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON captures TO caly_operator;
GRANT SELECT, INSERT, UPDATE ON captures TO caly_dataplane;

-- +goose Down
DROP TABLE captures;

-- +goose Up
CREATE TABLE retry_statistics (
    tenant         text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    dependency     text NOT NULL CHECK (dependency ~ '^[a-z0-9-]{1,32}$'),
    retries        bigint NOT NULL DEFAULT 0,
    successful     bigint NOT NULL DEFAULT 0,
    failed         bigint NOT NULL DEFAULT 0,
    breaker_opened bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, dependency)
);
COMMENT ON TABLE retry_statistics IS 'What upload pods counted before they ended: they live too briefly to be scraped.';
ALTER TABLE retry_statistics ENABLE ROW LEVEL SECURITY;
ALTER TABLE retry_statistics FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON retry_statistics TO caly_operator USING (true) WITH CHECK (true);
CREATE POLICY upload ON retry_statistics TO caly_upload
    USING (tenant = (SELECT caly_upload_tenant())) WITH CHECK (tenant = (SELECT caly_upload_tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON retry_statistics TO caly_operator;
GRANT SELECT, INSERT ON retry_statistics TO caly_upload;
GRANT UPDATE (retries, successful, failed, breaker_opened) ON retry_statistics TO caly_upload;

-- +goose Down
DROP TABLE retry_statistics;

-- +goose Up
CREATE TABLE tenant_names (
    kind       text NOT NULL CHECK (kind IN ('account', 'host', 'number', 'object')),
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 253),
    tenant     text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    uid        text NOT NULL CHECK (length(uid) <= 128),
    shared     boolean NOT NULL DEFAULT false CHECK (NOT shared OR kind = 'account'),
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, name, tenant)
);
CREATE UNIQUE INDEX tenant_names_owner ON tenant_names (kind, name) WHERE NOT shared;
CREATE INDEX tenant_names_tenant ON tenant_names (tenant);
COMMENT ON TABLE tenant_names IS 'Names that are unique on the platform, each with the tenant that holds it. The operator publishes only names with a row here.';
COMMENT ON COLUMN tenant_names.uid IS 'UID of the Tenant. A Tenant created again under the same name does not inherit the names.';
COMMENT ON COLUMN tenant_names.shared IS 'The tenant shares the account with its owner: Exotel accepted the credentials of both.';

ALTER TABLE tenant_names ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_names FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON tenant_names TO caly_operator USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_names TO caly_operator;

-- +goose Down
DROP TABLE tenant_names;

-- +goose Up
ALTER TABLE tenants ADD COLUMN uid text NOT NULL DEFAULT '' CHECK (length(uid) <= 64);
COMMENT ON COLUMN tenants.uid IS 'UID of the Tenant object that the rows belong to. Empty: written by a version that did not store it.';

-- What the operator must know of the installation as it was before this version.
CREATE TABLE installation (
    single          boolean PRIMARY KEY DEFAULT true CHECK (single),
    require_labels  boolean NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN installation.require_labels IS 'Whether Secrets that Tenants name need a label by default: true for an installation that had no Tenant when this row was written.';
-- The owner of the tables is bound by row-level security too, and would see no Tenant.
ALTER TABLE tenants NO FORCE ROW LEVEL SECURITY;
INSERT INTO installation (require_labels) SELECT NOT EXISTS (SELECT FROM tenants);
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
GRANT SELECT ON installation TO caly_operator;

-- +goose Down
DROP TABLE installation;
ALTER TABLE tenants DROP COLUMN uid;

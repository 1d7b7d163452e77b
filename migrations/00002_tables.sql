-- +goose Up
CREATE TABLE tenants (
    tenant     text PRIMARY KEY CHECK (length(tenant) BETWEEN 3 AND 128),
    suspended  boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenants IS 'What the queue must know of a Tenant: claims stop while it is suspended.';

CREATE TABLE calls (
    tenant               text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    call_sid             text NOT NULL CHECK (length(call_sid) BETWEEN 1 AND 64),
    state                smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 8),
    direction            text NOT NULL DEFAULT '',
    from_number          text NOT NULL DEFAULT '',
    to_number            text NOT NULL DEFAULT '',
    started_at           timestamptz,
    ended_at             timestamptz,
    conversation_seconds integer NOT NULL DEFAULT 0,
    custom_field         text NOT NULL DEFAULT '',
    recording_ids        text[] NOT NULL DEFAULT '{}' CHECK (cardinality(recording_ids) <= 16),
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, call_sid)
);
COMMENT ON COLUMN calls.recording_ids IS 'Every recording ever queued for the call: the lock of this row is what makes one row of each, over queue and history.';

CREATE TABLE call_events (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant       text NOT NULL,
    call_sid     text NOT NULL,
    kind         text NOT NULL,
    event_type   text NOT NULL DEFAULT '',
    dedup_key    bytea NOT NULL CHECK (length(dedup_key) = 32),
    source       text NOT NULL,
    content_type text NOT NULL DEFAULT '',
    query        text NOT NULL DEFAULT '',
    raw          bytea NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now(),
    applied_at   timestamptz,
    dead_reason  text,
    CHECK ((applied_at IS NULL) <> (dead_reason IS NULL)),
    UNIQUE (tenant, dedup_key)
);
CREATE INDEX call_events_call ON call_events (tenant, call_sid);
CREATE INDEX call_events_dead ON call_events (tenant, id) WHERE dead_reason IS NOT NULL;

-- The queue holds unfinished work only. Pages keep room for updates in place; no index covers a column that a heartbeat changes.
CREATE TABLE recordings (
    tenant            text NOT NULL,
    id                text NOT NULL CHECK (id ~ '^[0-9a-f]{16}$'),
    call_sid          text NOT NULL,
    source_url        text NOT NULL CHECK (length(source_url) BETWEEN 1 AND 2048),
    available_at      timestamptz NOT NULL DEFAULT now(),
    lease_owner       text,
    lease_until       timestamptz,
    attempts          integer NOT NULL DEFAULT 0,
    max_attempts      integer NOT NULL DEFAULT 12,
    upload_started_at timestamptz,
    has_view          boolean NOT NULL DEFAULT false,
    last_error_code   text NOT NULL DEFAULT '',
    last_error        text NOT NULL DEFAULT '',
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL))
) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX recordings_claim ON recordings (tenant, available_at, id) WHERE lease_owner IS NULL;
CREATE INDEX recordings_leased ON recordings (tenant) WHERE lease_owner IS NOT NULL;
CREATE INDEX recordings_unviewed ON recordings (tenant, created_at) WHERE NOT has_view;

CREATE TABLE recording_history (
    tenant          text NOT NULL,
    id              text NOT NULL,
    call_sid        text NOT NULL,
    source_url      text NOT NULL,
    state           text NOT NULL CHECK (state IN ('uploaded', 'failed')),
    attempts        integer NOT NULL,
    has_view        boolean NOT NULL DEFAULT false,
    last_error_code text NOT NULL DEFAULT '',
    last_error      text NOT NULL DEFAULT '',
    bucket          text NOT NULL DEFAULT '',
    object_key      text NOT NULL DEFAULT '',
    size            bigint NOT NULL DEFAULT 0,
    md5             text NOT NULL DEFAULT '',
    sha256          text NOT NULL DEFAULT '',
    finished_by     text NOT NULL,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz NOT NULL DEFAULT now(),
    CHECK (state <> 'uploaded' OR (object_key <> '' AND length(sha256) = 64))
) PARTITION BY RANGE (finished_at);
CREATE TABLE recording_history_default PARTITION OF recording_history DEFAULT;
CREATE INDEX recording_history_id ON recording_history (tenant, id, finished_at DESC);
CREATE INDEX recording_history_unviewed ON recording_history (tenant, finished_at) WHERE NOT has_view AND state = 'failed';
COMMENT ON COLUMN recording_history.state IS 'uploaded only with a verified object';

CREATE TABLE upload_roles (
    role   name PRIMARY KEY,
    tenant text NOT NULL UNIQUE
);
COMMENT ON TABLE upload_roles IS 'Which tenant a login role of an upload pod is bound to. Only the functions below write it.';

-- +goose Down
DROP TABLE upload_roles, recording_history, recordings, call_events, calls, tenants;

-- +goose Up
CREATE TABLE stream_sessions (
    tenant             text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    id                 uuid NOT NULL,
    call_sid           text NOT NULL DEFAULT '' CHECK (length(call_sid) <= 128),
    stream_sid         text NOT NULL DEFAULT '' CHECK (length(stream_sid) <= 128),
    pod                text NOT NULL CHECK (length(pod) BETWEEN 1 AND 253),
    agent              text NOT NULL DEFAULT '' CHECK (length(agent) <= 300),
    address            inet,
    token_id           text CHECK (length(token_id) BETWEEN 1 AND 64),
    started_at         timestamptz NOT NULL DEFAULT now(),
    last_seen_at       timestamptz NOT NULL DEFAULT now(),
    close_requested_at timestamptz,
    ended_at           timestamptz,
    end_reason         text NOT NULL DEFAULT '' CHECK (length(end_reason) <= 40),
    reconnected        boolean NOT NULL DEFAULT false,
    frames_to_agent    bigint NOT NULL DEFAULT 0,
    bytes_to_agent     bigint NOT NULL DEFAULT 0,
    dropped_to_agent   bigint NOT NULL DEFAULT 0,
    frames_to_exotel   bigint NOT NULL DEFAULT 0,
    bytes_to_exotel    bigint NOT NULL DEFAULT 0,
    dropped_to_exotel  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, id),
    CHECK ((ended_at IS NULL) = (end_reason = ''))
) WITH (fillfactor = 80);
-- None of these has a column that a heartbeat changes.
CREATE INDEX stream_sessions_live ON stream_sessions (tenant) WHERE ended_at IS NULL;
CREATE INDEX stream_sessions_pod ON stream_sessions (pod) WHERE ended_at IS NULL;
CREATE INDEX stream_sessions_closing ON stream_sessions (pod) WHERE ended_at IS NULL AND close_requested_at IS NOT NULL;
CREATE INDEX stream_sessions_ended ON stream_sessions (ended_at) WHERE ended_at IS NOT NULL;
CREATE UNIQUE INDEX stream_sessions_token ON stream_sessions (tenant, token_id) WHERE token_id IS NOT NULL;
COMMENT ON TABLE stream_sessions IS 'A row for each audio stream: while it has no end it counts against the tenant''s limit, and its pod says every few seconds that it lives.';
COMMENT ON COLUMN stream_sessions.agent IS 'Host of the agent. Its URL may hold a secret.';
COMMENT ON COLUMN stream_sessions.token_id IS 'The one-time token that let it in, by its id, which is no secret. A row keeps the token from being used again.';
COMMENT ON COLUMN stream_sessions.close_requested_at IS 'Somebody wants it closed. Its pod looks every second or two.';

ALTER TABLE stream_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE stream_sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON stream_sessions TO caly_operator USING (true) WITH CHECK (true);
-- A pod asks for all its tenants at once: the list is taken apart once, not for each row.
CREATE POLICY dataplane ON stream_sessions TO caly_dataplane
    USING (tenant = ANY ((SELECT string_to_array(current_setting('caly.tenant', true), ','))::text[]))
    WITH CHECK (tenant = ANY ((SELECT string_to_array(current_setting('caly.tenant', true), ','))::text[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON stream_sessions TO caly_operator;
GRANT SELECT, INSERT, UPDATE ON stream_sessions TO caly_dataplane;

-- +goose Down
DROP TABLE stream_sessions;

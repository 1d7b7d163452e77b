-- +goose Up
-- Lists of a tenant's streams, newest first, one page after another; and those of one call. A heartbeat changes a call's id once at most.
CREATE INDEX stream_sessions_listed ON stream_sessions (tenant, started_at DESC, id DESC);
CREATE INDEX stream_sessions_call ON stream_sessions (tenant, call_sid, started_at DESC, id DESC);
COMMENT ON COLUMN stream_sessions.frames_to_agent IS 'Passed on so far, as all counts: each heartbeat of the pod writes them, and the end.';

-- +goose Down
COMMENT ON COLUMN stream_sessions.frames_to_agent IS NULL;
DROP INDEX stream_sessions_call, stream_sessions_listed;

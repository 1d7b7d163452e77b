-- +goose Up
ALTER TABLE stream_sessions ADD COLUMN capture_id text NOT NULL DEFAULT '' CHECK (capture_id ~ '^([0-9a-f]{16})?$');
COMMENT ON COLUMN stream_sessions.capture_id IS 'The capture that the pod makes of it, from the start on. If the pod goes before that has a row, the session''s end as an orphan writes one.';

-- +goose Down
ALTER TABLE stream_sessions DROP COLUMN capture_id;

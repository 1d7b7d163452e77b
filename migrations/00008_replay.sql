-- +goose Up
-- Events whose deliveries differed are few and looked for among all. The build reads the table once and keeps writers waiting
-- meanwhile: where it is large, make the index beforehand, CONCURRENTLY, under this name.
CREATE INDEX IF NOT EXISTS call_events_changed ON call_events (id) WHERE changed_replays > 0;

-- +goose Down
DROP INDEX call_events_changed;

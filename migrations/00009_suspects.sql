-- +goose Up
-- Calls of whose end nobody told are few, and looked for among all. The build reads the table once and keeps writers waiting
-- meanwhile: where it is large, make the index beforehand, CONCURRENTLY, under this name.
CREATE INDEX IF NOT EXISTS calls_open ON calls (tenant, (coalesce(started_at, created_at)), call_sid) WHERE state < 4;

-- +goose Down
DROP INDEX calls_open;

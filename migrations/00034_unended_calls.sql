-- +goose Up
-- Calls whose end is not known. Of some of them a leg has ended, which gives them a state: the weight of the whole call
-- is below that of an end.
-- The build reads the table once and keeps writers waiting meanwhile: where it is large, make the index beforehand, CONCURRENTLY, under this
-- name. It also serves the queries that calls_open was for.
CREATE INDEX IF NOT EXISTS calls_unended ON calls (tenant, (coalesce(started_at, created_at)), call_sid)
    WHERE state < 4 OR (state > 4 AND whole_weight < 87960930222080);
DROP INDEX calls_open;

-- +goose Down
CREATE INDEX IF NOT EXISTS calls_open ON calls (tenant, (coalesce(started_at, created_at)), call_sid) WHERE state < 4;
DROP INDEX calls_unended;

-- +goose Up
-- CallRecordings are made of what was uploaded a moment ago too.
DROP INDEX recording_history_unviewed;
CREATE INDEX recording_history_unviewed ON recording_history (tenant, state, finished_at) WHERE NOT has_view;

-- +goose Down
DROP INDEX recording_history_unviewed;
CREATE INDEX recording_history_unviewed ON recording_history (tenant, finished_at) WHERE NOT has_view AND state = 'failed';

-- +goose Up
-- When the last attempt failed: an upload that ended later shows that the cause no longer holds.
ALTER TABLE recordings ADD COLUMN last_error_at timestamptz;
GRANT UPDATE (last_error_at) ON recordings TO caly_upload;

-- +goose Down
ALTER TABLE recordings DROP COLUMN last_error_at;

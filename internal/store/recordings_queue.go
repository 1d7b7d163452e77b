package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/recording"
)

// Claim leases up to n recordings that are due, oldest first; an expired lease is taken over while the recording has attempts
// left. Rows that another claim holds at this moment are skipped. While the tenant is suspended it returns none.
func (d *Upload) Claim(ctx context.Context, owner string, n int, lease time.Duration) ([]Recording, error) {
	rows, err := d.pool.Query(ctx, `
		WITH due AS (
			SELECT tenant, id FROM recordings
			WHERE tenant = caly_upload_tenant() AND available_at <= now()
				AND (lease_owner IS NULL OR (lease_until < now() AND attempts + 1 < $4))
				AND NOT EXISTS (SELECT FROM tenants t WHERE t.tenant = caly_upload_tenant() AND t.suspended)
			ORDER BY available_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
		UPDATE recordings r SET lease_owner = $1, lease_until = now() + $3::interval,
			attempts = r.attempts + CASE WHEN r.lease_owner IS NULL THEN 0 ELSE 1 END
		FROM due WHERE r.tenant = due.tenant AND r.id = due.id
		RETURNING `+queueColumns("r"), owner, n, lease, recording.MaxAttempts)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, scanRecording)
	return list, explain(err)
}

// Heartbeat renews the leases of the ids that owner still holds, and returns those.
func (d *Upload) Heartbeat(
	ctx context.Context, owner string, ids []string, lease time.Duration,
) (held []string, err error) {
	rows, err := d.pool.Query(ctx, `UPDATE recordings SET lease_until = now() + $3::interval
		WHERE tenant = caly_upload_tenant() AND id = ANY($2) AND lease_owner = $1 RETURNING id`, owner, ids, lease)
	if err != nil {
		return nil, explain(err)
	}
	held, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return held, explain(err)
}

// MarkUploadStarted notes that from now on the bucket may hold an object, whatever becomes of this worker.
func (d *Upload) MarkUploadStarted(ctx context.Context, owner, id string) error {
	return d.held(ctx, `UPDATE recordings SET upload_started_at = coalesce(upload_started_at, now())
		WHERE tenant = caly_upload_tenant() AND id = $2 AND lease_owner = $1`, owner, id)
}

// Complete moves a recording into the history as uploaded, without the query of its source URL: it may be a signature
// that opens the audio. RedactURLs removes it from the other tables. ErrLeaseLost when owner no longer holds it,
// unless the same owner completed it with the same result before (the answer was lost).
func (d *Upload) Complete(ctx context.Context, owner, id string, res Result) error {
	err := d.held(ctx, `
		WITH gone AS (DELETE FROM recordings
			WHERE tenant = caly_upload_tenant() AND id = $2 AND lease_owner = $1 RETURNING *),
		signed AS (INSERT INTO url_redactions (tenant, call_sid, source)
			SELECT tenant, call_sid, split_part(source_url, '?', 1) FROM gone WHERE source_url LIKE '%?%'
			ON CONFLICT DO NOTHING)
		INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, has_view, bucket,
			object_key, size, md5, sha256, finished_by, created_at)
		SELECT tenant, id, call_sid, split_part(source_url, '?', 1), 'uploaded', attempts + 1, has_view,
			$3, $4, $5, $6, $7, $1, created_at FROM gone`,
		owner, id, res.Bucket, res.Key, res.Size, res.MD5, res.SHA256)
	if err != ErrLeaseLost { //nolint:errorlint // held returns it bare
		return err
	}
	var done bool
	err = d.pool.QueryRow(
		ctx,
		`SELECT EXISTS (SELECT FROM recording_history WHERE tenant = caly_upload_tenant() AND id = $2
		AND finished_by = $1 AND state = 'uploaded' AND sha256 = $3)`,
		owner, id, res.SHA256,
	).Scan(&done)
	if err != nil {
		return explain(err)
	}
	if !done {
		return ErrLeaseLost
	}
	return nil
}

// LaterAttempt is the next attempt at a recording, with the error of the last one.
type LaterAttempt struct {
	// At is when the recording is due again.
	At            time.Time
	Code, Message string
	// Counted is false for an attempt that failed for a reason outside of the recording.
	Counted bool
}

// RetryLater returns the recording to the queue for a later attempt.
func (d *Upload) RetryLater(ctx context.Context, owner, id string, a LaterAttempt) error {
	counted := 0
	if a.Counted {
		counted = 1
	}
	return d.held(
		ctx,
		`UPDATE recordings SET lease_owner = NULL, lease_until = NULL, available_at = $3, attempts = attempts + $6,
		last_error_code = $4, last_error = $5, last_error_at = now()
		WHERE tenant = caly_upload_tenant() AND id = $2 AND lease_owner = $1`,
		owner, id, a.At, a.Code, bounded.Text(a.Message, maxError), counted,
	)
}

// Fail moves a recording into the history as failed.
func (d *Upload) Fail(ctx context.Context, owner, id, code, msg string) error {
	return d.held(ctx, `
		WITH gone AS (DELETE FROM recordings WHERE tenant = caly_upload_tenant() AND id = $2 AND lease_owner = $1
			RETURNING *)
		INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, has_view,
			last_error_code, last_error, finished_by, created_at)
		SELECT tenant, id, call_sid, source_url, 'failed', attempts + 1, has_view, $3, $4, $1, created_at FROM gone`,
		owner, id, code, bounded.Text(msg, maxError))
}

// Release hands leases back at once, as a pod does that is told to end. No attempt is counted.
func (d *Upload) Release(ctx context.Context, owner string, ids []string) error {
	_, err := d.pool.Exec(ctx, `UPDATE recordings SET lease_owner = NULL, lease_until = NULL
		WHERE tenant = caly_upload_tenant() AND id = ANY($2) AND lease_owner = $1`, owner, ids)
	return explain(err)
}

// held runs a statement that must change exactly the row that owner holds.
func (d *Upload) held(ctx context.Context, sql string, args ...any) error {
	tag, err := d.pool.Exec(ctx, sql, args...)
	if err != nil {
		return explain(err)
	}
	if tag.RowsAffected() == 0 {
		return ErrLeaseLost
	}
	return nil
}

// maxError bounds the text of an error in a row, in bytes: parts of it may be another host's words.
const maxError = 1000

package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
)

// RecordingKey names a recording.
type RecordingKey struct {
	Tenant, ID string
}

// queueColumns returns the columns of a queued recording, in the order of scanRecording.
func queueColumns(alias string) string {
	a := alias + "."
	return a + "tenant, " + a + "id, " + a + "call_sid, " + a + "source_url, " +
		"CASE WHEN " + a + "lease_owner IS NULL THEN 'pending' ELSE 'leased' END, " +
		a + "attempts, " + a + "available_at, " + a + "last_error_code, " + a + "last_error, " +
		"''::text, ''::text, 0::bigint, ''::text, " +
		a + "created_at, NULL::timestamptz, " + a + "upload_started_at IS NOT NULL, " + a + "has_view, false, " +
		"coalesce(" + a + "traceparent, '')"
}

const historyColumns = `h.tenant, h.id, h.call_sid, h.source_url, h.state,
	h.attempts, h.finished_at, h.last_error_code, h.last_error,
	h.bucket, h.object_key, h.size, h.sha256, h.created_at, h.finished_at, true, h.has_view, false, ''::text`

// captureColumns are a capture's, as those of a recording.
const captureColumns = `c.tenant, c.id, c.call_sid, ''::text,
	CASE c.state WHEN 'recording' THEN 'leased' ELSE c.state END, 0, c.created_at,
	c.error_code, c.error, c.bucket, c.object_key, c.size, c.sha256, c.created_at, c.finished_at, true, true, true, ''::text`

// scanRecording reads a row of queueColumns, historyColumns or captureColumns.
func scanRecording(row pgx.CollectableRow) (Recording, error) {
	var r Recording
	var state string
	var finished *time.Time
	err := row.Scan(
		&r.Tenant,
		&r.ID,
		&r.CallSID,
		&r.SourceURL,
		&state,
		&r.Attempts,
		&r.AvailableAt,
		&r.LastErrorCode,
		&r.LastError,
		&r.Bucket,
		&r.Key,
		&r.Size,
		&r.SHA256,
		&r.CreatedAt,
		&finished,
		&r.UploadStarted,
		&r.HasCallRecording,
		&r.Captured,
		&r.Traceparent,
	)
	r.State = RecordingState(state)
	if finished != nil {
		r.FinishedAt = *finished
	}
	return r, err
}

// split returns the keys as two arrays of the same length, for unnest.
func split(keys []RecordingKey) (tenants, ids []string) {
	for _, k := range keys {
		tenants = append(tenants, k.Tenant)
		ids = append(ids, k.ID)
	}
	return tenants, ids
}

// Recordings reads the recordings of the keys, from the queue or else the newest from the history. Unknown ones are absent.
func (d *Operator) Recordings(ctx context.Context, keys []RecordingKey) (map[RecordingKey]Recording, error) {
	tenants, ids := split(keys)
	rows, err := d.pool.Query(ctx, `
		WITH k AS (SELECT * FROM unnest($1::text[], $2::text[]) AS k(tenant, id))
		SELECT `+queueColumns("r")+` FROM k JOIN recordings r USING (tenant, id)
		UNION ALL
		SELECT * FROM (SELECT DISTINCT ON (h.tenant, h.id) `+historyColumns+` FROM k JOIN recording_history h USING (tenant, id)
			WHERE NOT EXISTS (SELECT FROM recordings r WHERE r.tenant = k.tenant AND r.id = k.id)
			ORDER BY h.tenant, h.id, h.finished_at DESC) newest`, tenants, ids)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, scanRecording)
	if err != nil {
		return nil, explain(err)
	}
	found := make(map[RecordingKey]Recording, len(list))
	for _, r := range list {
		found[RecordingKey{r.Tenant, r.ID}] = r
	}
	return found, nil
}

// Retry puts a failed recording back into the queue with all its attempts; one that waits there becomes due at once.
// ErrNotFound when there is neither, and ErrCapture when it was captured here.
func (d *Operator) Retry(ctx context.Context, tenant, id string) error {
	var n int
	var captured bool
	err := d.pool.QueryRow(ctx, `
		WITH last AS (
			SELECT tenant, id, max(finished_at) AS finished_at FROM recording_history WHERE tenant = $1
				AND id = $2 GROUP BY 1, 2),
		gone AS (
			DELETE FROM recording_history h USING last WHERE h.tenant = last.tenant AND h.id = last.id
				AND h.finished_at = last.finished_at AND h.state = 'failed' RETURNING h.*),
		again AS (
			INSERT INTO recordings (tenant, id, call_sid, source_url, upload_started_at, has_view, created_at)
			SELECT tenant, id, call_sid, source_url, now(), has_view, created_at FROM gone RETURNING 1),
		due AS (
			UPDATE recordings SET available_at = least(available_at, now()), attempts = 0 WHERE tenant = $1
				AND id = $2 RETURNING 1)
		SELECT (SELECT count(*) FROM again) + (SELECT count(*) FROM due),
			EXISTS (SELECT FROM captures WHERE tenant = $1 AND id = $2)`, tenant, id).Scan(&n, &captured)
	switch {
	case err != nil:
		return explain(err)
	case n > 0:
		return nil
	case captured:
		return ErrCapture
	}
	return ErrNotFound
}

// Wanted selects the recordings that get CallRecordings.
type Wanted struct {
	// Queued are those that wait or are being uploaded.
	Queued bool
	Failed bool
	// Uploaded bounds those that were uploaded since.
	Uploaded int
	Since    time.Duration
	// Limit of all.
	Limit int
}

// Unviewed returns those of a tenant's recordings that are wanted and no CallRecording was made of: first the queued
// ones, then the failed, then the uploaded, each oldest first.
func (d *Operator) Unviewed(ctx context.Context, tenant string, w Wanted) ([]Recording, error) {
	rows, err := d.pool.Query(ctx, `
		(SELECT `+queueColumns("r")+` FROM recordings r WHERE $2 AND r.tenant = $1 AND NOT r.has_view
			ORDER BY r.created_at LIMIT $4)
		UNION ALL
		(SELECT `+historyColumns+` FROM recording_history h WHERE $3 AND h.tenant = $1 AND NOT h.has_view
			AND h.state = 'failed'
			ORDER BY h.finished_at LIMIT $4)
		UNION ALL
		(SELECT `+historyColumns+` FROM recording_history h WHERE h.tenant = $1 AND NOT h.has_view
			AND h.state = 'uploaded'
			AND h.finished_at > now() - $6::interval ORDER BY h.finished_at LIMIT $5)
		LIMIT $4`, tenant, w.Queued, w.Failed, w.Limit, max(w.Uploaded, 0), w.Since)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, scanRecording)
	return list, explain(err)
}

// MarkViewed notes that CallRecordings were made of the recordings.
func (d *Operator) MarkViewed(ctx context.Context, keys []RecordingKey) error {
	tenants, ids := split(keys)
	_, err := d.pool.Exec(ctx, `
		WITH k AS (SELECT * FROM unnest($1::text[], $2::text[]) AS k(tenant, id)),
		q AS (UPDATE recordings r SET has_view = true FROM k WHERE r.tenant = k.tenant AND r.id = k.id
			AND NOT r.has_view)
		UPDATE recording_history h SET has_view = true FROM k WHERE h.tenant = k.tenant AND h.id = k.id
			AND NOT h.has_view`, tenants, ids)
	return explain(err)
}

// Backlogs tells of every tenant with unfinished recordings, each counted up to the limit. Tenants are found by skipping
// through the index, one probe each, so a long queue costs no more than a short one.
func (d *Operator) Backlogs(ctx context.Context, limitPerTenant int) ([]Backlog, error) {
	rows, err := d.pool.Query(ctx, `
		WITH RECURSIVE t AS (
			(SELECT tenant FROM recordings ORDER BY tenant LIMIT 1)
			UNION ALL
			SELECT (SELECT r.tenant FROM recordings r WHERE r.tenant > t.tenant ORDER BY r.tenant LIMIT 1) FROM t
				WHERE t.tenant IS NOT NULL)
		SELECT t.tenant, ready.n, leased.n, next.at, ready.oldest FROM t,
			LATERAL (SELECT count(*)::int AS n, min(created_at) AS oldest
				FROM (SELECT created_at FROM recordings r WHERE r.tenant = t.tenant
				AND lease_owner IS NULL AND available_at <= now() ORDER BY available_at, id LIMIT $1) x) ready,
			LATERAL (SELECT count(*)::int AS n FROM (SELECT FROM recordings r
				WHERE r.tenant = t.tenant AND lease_owner IS NOT NULL LIMIT $1) x) leased,
			LATERAL (SELECT min(available_at) AS at FROM recordings r WHERE r.tenant = t.tenant
				AND lease_owner IS NULL AND available_at > now()) next
		WHERE t.tenant IS NOT NULL`, limitPerTenant)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Backlog, error) {
		var b Backlog
		var next, oldest *time.Time
		err := row.Scan(&b.Tenant, &b.Ready, &b.Leased, &next, &oldest)
		if next != nil {
			b.NextAt = *next
		}
		if oldest != nil {
			b.OldestReady = *oldest
		}
		return b, err
	})
	return list, explain(err)
}

// ReapLeases gives expired leases back to the queue, an attempt counted, and returns how many. The first time a recording is
// due again at once; after that it waits longer each time, and in the end it fails: it may be what kills its pods.
func (d *Operator) ReapLeases(ctx context.Context) (int, error) {
	var n int
	err := d.pool.QueryRow(ctx, `
		WITH dead AS (
			SELECT tenant, id, attempts + 1 >= $4 AND created_at < now() - $3::interval AS last
			FROM recordings WHERE lease_until < now() LIMIT 1000 FOR UPDATE SKIP LOCKED),
		gone AS (
			DELETE FROM recordings r USING dead WHERE dead.last AND r.tenant = dead.tenant AND r.id = dead.id
				RETURNING r.*),
		failed AS (
			INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, has_view,
				last_error_code, last_error,
				finished_by, created_at)
			SELECT tenant, id, call_sid, source_url, 'failed', attempts + 1, has_view, $1, $2, 'operator', created_at
				FROM gone),
		again AS (
			UPDATE recordings r SET lease_owner = NULL, lease_until = NULL, attempts = attempts + 1,
				last_error_code = $1, last_error = $2,
				last_error_at = now(),
				available_at = now() + ($5::interval[])[least(attempts + 1, cardinality($5::interval[]))]
			FROM dead WHERE NOT dead.last AND r.tenant = dead.tenant AND r.id = dead.id)
		SELECT count(*) FROM dead`, reason.LeaseExpired,
		"the upload pod that held it ended without a report: "+
			"see the pods of the upload namespace, their memory first",
		recording.Window, recording.MaxAttempts, recording.WaitsOfLostPods()).Scan(&n)
	return n, explain(err)
}

// TakeLeases gives the recordings that upload pods of the tenant hold back to the queue. The pods stop to work on them
// at their next heartbeat. No attempt is counted.
func (d *Operator) TakeLeases(ctx context.Context, tenant string) error {
	_, err := d.pool.Exec(ctx, `UPDATE recordings SET lease_owner = NULL, lease_until = NULL
		WHERE tenant = $1 AND lease_owner IS NOT NULL`, tenant)
	return explain(err)
}

// HasUploads tells whether an object of the tenant may be in its bucket.
func (d *Operator) HasUploads(ctx context.Context, tenant string) (has bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM recording_history WHERE tenant = $1 AND state = 'uploaded')
		OR EXISTS (SELECT FROM recordings WHERE tenant = $1 AND upload_started_at IS NOT NULL)
		OR EXISTS (SELECT FROM captures WHERE tenant = $1 AND state <> 'failed')`, tenant).Scan(&has)
	return has, explain(err)
}

// EnsureHistoryPartitions makes the history's partitions of the coming months.
func (d *Operator) EnsureHistoryPartitions(ctx context.Context, months int) error {
	_, err := d.pool.Exec(ctx, `SELECT caly_ensure_history_partitions($1)`, months)
	return explain(err)
}

package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// UploadState is what the queue and the history of a tenant say about its uploads. Zero times: there was no such thing.
type UploadState struct {
	Tenant string
	// DueSince is since when the recording that has waited longest could have been claimed.
	DueSince time.Time
	// FailedAt is when an attempt failed last, of the recordings that wait for another one.
	FailedAt time.Time
	// FailedCode and FailedError say why, and FailedQueued when that recording was queued.
	FailedCode, FailedError string
	FailedQueued            time.Time
	// UploadedAt is when a recording was uploaded last, within uploadRecent.
	UploadedAt time.Time
}

// uploadRecent bounds how far back the last upload of a tenant is looked for.
const uploadRecent = 24 * time.Hour

// UploadStates returns the states of all tenants with unfinished recordings. Each costs a few probes of an index,
// however long the queue is: of the recordings that wait for another attempt those count that are due last.
func (d *Operator) UploadStates(ctx context.Context) ([]UploadState, error) {
	rows, err := d.pool.Query(ctx, `
		WITH RECURSIVE t AS (
			(SELECT tenant FROM recordings ORDER BY tenant LIMIT 1)
			UNION ALL
			SELECT (SELECT r.tenant FROM recordings r WHERE r.tenant > t.tenant ORDER BY r.tenant LIMIT 1)
			FROM t WHERE t.tenant IS NOT NULL)
		SELECT t.tenant, due.since, failed.last_error_at, coalesce(failed.last_error_code, ''),
			coalesce(failed.last_error, ''), failed.created_at, uploaded.at
		FROM t
		LEFT JOIN LATERAL (SELECT min(available_at) AS since FROM recordings r WHERE r.tenant = t.tenant
			AND lease_owner IS NULL AND available_at <= now()) due ON true
		LEFT JOIN LATERAL (SELECT * FROM (SELECT last_error_at, last_error_code, last_error, created_at
				FROM recordings r WHERE r.tenant = t.tenant AND lease_owner IS NULL
				ORDER BY available_at DESC, id DESC LIMIT 50) last
			WHERE last_error_at IS NOT NULL ORDER BY last_error_at DESC LIMIT 1) failed ON true
		LEFT JOIN LATERAL (SELECT finished_at AS at FROM recording_history h WHERE h.tenant = t.tenant
			AND state = 'uploaded' AND finished_at > now() - $1::interval
			ORDER BY finished_at DESC LIMIT 1) uploaded ON true
		WHERE t.tenant IS NOT NULL`, uploadRecent)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (UploadState, error) {
		var s UploadState
		var due, failed, queued, uploaded *time.Time
		err := row.Scan(&s.Tenant, &due, &failed, &s.FailedCode, &s.FailedError, &queued, &uploaded)
		s.DueSince = orZero(due)
		s.UploadedAt = orZero(uploaded)
		s.FailedAt = orZero(failed)
		s.FailedQueued = orZero(queued)
		return s, err
	})
	return list, explain(err)
}

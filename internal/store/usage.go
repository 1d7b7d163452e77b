package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bounds of what Usage counts. A count of as much means: as much or more.
const (
	MaxUsage   = 100_000
	MaxWaiting = 1000
)

// Usage is what a tenant has used. Counts stop at MaxUsage, those of the backlog at MaxWaiting.
type Usage struct {
	// Calls and Recordings by when the first was heard of them.
	CallsToday, CallsThisMonth, RecordingsToday, RecordingsThisMonth int
	// Uploaded recordings and their bytes, by when they were uploaded.
	UploadedThisMonth int
	UploadedBytes     int64
	// Waiting for upload, and being uploaded.
	Waiting, Uploading int
}

const (
	countCalls = `SELECT count(*) FROM (SELECT FROM calls WHERE tenant = $1 AND created_at >= $2 LIMIT %d) counted`
	// What was queued since then has ended no earlier, which chooses partitions.
	countRecordings = `SELECT count(*) FROM (
		SELECT FROM recordings WHERE tenant = $1 AND created_at >= $2
		UNION ALL
		SELECT FROM recording_history WHERE tenant = $1 AND created_at >= $2 AND finished_at >= $2 LIMIT %d) counted`
	sumUploaded = `SELECT count(*), coalesce(sum(size), 0)::bigint FROM (
		SELECT size FROM recording_history WHERE tenant = $1 AND finished_at >= $2 AND state = 'uploaded' LIMIT %d) counted`
	countWaiting   = `SELECT count(*) FROM (SELECT FROM recordings WHERE tenant = $1 AND lease_owner IS NULL LIMIT %d) counted`
	countUploading = `SELECT count(*) FROM (SELECT FROM recordings WHERE tenant = $1 AND lease_owner IS NOT NULL LIMIT %d) counted`
)

// Usage counts what a tenant has used since the beginning of a day and of a month.
func (d *Dataplane) Usage(ctx context.Context, tenant string, day, month time.Time) (u Usage, err error) {
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		count := func(sql string, bound int, since time.Time, into ...any) {
			b.Queue(
				fmt.Sprintf(sql, bound), tenant, since,
			).QueryRow(func(row pgx.Row) error { return row.Scan(into...) })
		}
		count(countCalls, MaxUsage, day, &u.CallsToday)
		count(countCalls, MaxUsage, month, &u.CallsThisMonth)
		count(countRecordings, MaxUsage, day, &u.RecordingsToday)
		count(countRecordings, MaxUsage, month, &u.RecordingsThisMonth)
		count(sumUploaded, MaxUsage, month, &u.UploadedThisMonth, &u.UploadedBytes)
		for sql, n := range map[string]*int{countWaiting: &u.Waiting, countUploading: &u.Uploading} {
			b.Queue(fmt.Sprintf(sql, MaxWaiting), tenant).QueryRow(func(row pgx.Row) error { return row.Scan(n) })
		}
	})
	return u, err
}

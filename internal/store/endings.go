package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/reason"
)

// otherTenants stands for the tenants that have no series of their own. No tenant's ID is without a slash.
const otherTenants = "other"

// Kinds of what ends.
const (
	EndingRecording = "recording"
	EndingCapture   = "capture"
	EndingStream    = "stream"
)

// EndingTotal counts what ended in one way since the database has the table, version 39 of the schema.
type EndingTotal struct {
	Kind string
	// Tenant is the tenant's ID, or otherTenants.
	Tenant        string
	Outcome, Code string
	Count         int64
	// Seconds is the sum of all durations: of a stream from its start; of a recording or capture from the end of its call.
	Seconds float64
	// Buckets has, for each of Bounds in seconds, how many took at most as long and longer than the bound before.
	Bounds  []float64
	Buckets []int64
}

// NameSeries gives tenants series of their own, up to a limit, and removes the series of tenants that are not among
// them. A tenant that has its own keeps it, so that no counter falls; when it is removed its totals are deleted.
func (d *Operator) NameSeries(ctx context.Context, tenants []string, limit int) error {
	tenants = append([]string{}, tenants...) // never NULL, to which no tenant is unequal
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(`LOCK TABLE metric_tenants IN SHARE ROW EXCLUSIVE MODE`)
		batch.Queue(`DELETE FROM metric_tenants WHERE tenant <> ALL ($1)
			OR tenant NOT IN (SELECT tenant FROM metric_tenants WHERE tenant = ANY ($1) ORDER BY tenant LIMIT $2)`,
			tenants, limit)
		batch.Queue(`INSERT INTO metric_tenants SELECT t FROM unnest($1::text[]) AS t
			WHERE t NOT IN (SELECT tenant FROM metric_tenants)
			ORDER BY t LIMIT greatest($2 - (SELECT count(*) FROM metric_tenants), 0)`, tenants, limit)
		for _, totals := range []string{"ending_totals", "backfill_totals"} {
			batch.Queue(
				`DELETE FROM `+totals+` WHERE tenant <> $1 AND tenant NOT IN (SELECT tenant FROM metric_tenants)`,
				otherTenants,
			)
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	return explain(err)
}

// otherCode stands for codes and reasons that a program of this version does not write: a pod may write any text.
const otherCode = "other"

// codeSuspended stands for the codes of a suspended tenant's recordings that wait: nothing is wrong with them.
const codeSuspended = "Suspended"

// EndingWords are the words that are counted by name. All others are otherCode.
type EndingWords struct {
	// Recordings and Captures are codes of errors; Streams are reasons of ends.
	Recordings, Captures, Streams []string
}

// EndingQuery says how endings are counted.
type EndingQuery struct {
	// Limit bounds the endings that one transaction counts.
	Limit int
	// Bounds are the upper bounds of the buckets, in seconds, rising. Other bounds than before begin the buckets again.
	Bounds []float64
	Words  EndingWords
}

// countEndings adds each ending to its total. A row is a cell of a total first, so that the cost does not grow with the
// number of totals.
const countEndings = `
	WITH next AS MATERIALIZED (SELECT id FROM endings ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED),
	counted AS (DELETE FROM endings e USING next WHERE e.id = next.id RETURNING e.*),
	timed AS (
		SELECT e.kind, coalesce(m.tenant, $3) AS tenant,
			CASE WHEN e.outcome = ANY (CASE e.kind WHEN 'stream' THEN $7::text[] ELSE ARRAY['uploaded', 'failed'] END)
				THEN e.outcome ELSE $4 END AS outcome,
			CASE WHEN e.kind = 'stream' OR e.code = '' THEN ''
				WHEN e.code = ANY (CASE e.kind WHEN 'recording' THEN $5::text[] ELSE $6::text[] END) THEN e.code
				ELSE $4 END AS code,
			extract(epoch FROM e.ended_at - CASE WHEN e.kind = 'stream' THEN least(e.since, e.ended_at)
				ELSE greatest(least(coalesce(c.ended_at, e.since), e.ended_at), e.ended_at - interval '10 years') END
				)::double precision AS seconds
		FROM counted e LEFT JOIN metric_tenants m USING (tenant)
		LEFT JOIN calls c ON c.tenant = e.tenant AND c.call_sid = e.call_sid AND e.kind <> 'stream'),
	cells AS (
		SELECT kind, tenant, outcome, code, count(*) AS count, sum(seconds) AS seconds,
			(SELECT count(*) + 1 FROM unnest($2::double precision[]) AS b WHERE b < t.seconds) AS bucket
		FROM timed t GROUP BY kind, tenant, outcome, code, bucket),
	groups AS (
		SELECT kind, tenant, outcome, code, sum(count)::bigint AS count, sum(seconds) AS seconds,
			jsonb_object_agg(bucket, count) AS buckets
		FROM cells GROUP BY kind, tenant, outcome, code),
	totals AS (
		INSERT INTO ending_totals AS t (kind, tenant, outcome, code, count, seconds, bounds, buckets)
		SELECT kind, tenant, outcome, code, count, seconds, $2, ARRAY(
				SELECT coalesce((buckets ->> b::text)::bigint, 0) FROM generate_series(1, cardinality($2::double precision[])) AS b
				ORDER BY b)
			FROM groups ORDER BY kind, tenant, outcome, code
		ON CONFLICT (kind, tenant, outcome, code) DO UPDATE SET count = t.count + excluded.count,
			seconds = t.seconds + excluded.seconds, bounds = excluded.bounds,
			buckets = CASE WHEN t.bounds = excluded.bounds THEN (SELECT array_agg(x.a + x.b ORDER BY x.n)
				FROM unnest(t.buckets, excluded.buckets) WITH ORDINALITY AS x(a, b, n)) ELSE excluded.buckets END)
	SELECT count(*) FROM counted`

// CountEndings adds endings to the totals, oldest first, and returns how many: each exactly once, in one transaction.
func (d *Operator) CountEndings(ctx context.Context, q EndingQuery) (n int, err error) {
	err = d.pool.QueryRow(ctx, countEndings,
		q.Limit, q.Bounds, otherTenants, otherCode, q.Words.Recordings, q.Words.Captures, q.Words.Streams).Scan(&n)
	return n, explain(err)
}

// EndingTotals returns all totals.
func (d *Operator) EndingTotals(ctx context.Context) ([]EndingTotal, error) {
	rows, err := d.pool.Query(
		ctx,
		`SELECT kind, tenant, outcome, code, count, seconds, bounds, buckets FROM ending_totals
		ORDER BY kind, tenant, outcome, code`,
	)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[EndingTotal])
	return list, explain(err)
}

// TenantCount is a number of a tenant's rows of one sort.
type TenantCount struct {
	// Tenant is the tenant's ID, or otherTenants.
	Tenant string
	// Label is what the rows have in common: an error code or the name of an outcome.
	Label string
	Count int64
	// Oldest is when the oldest row was created; zero when that is not known.
	Oldest time.Time
}

// TenantCounts are counts of all tenants, those without series of their own together.
type TenantCounts struct {
	// Waiting are recordings that wait for an upload pod, by the code of their last error; Uploading those that one has.
	// Those of a suspended tenant have codeSuspended, and no age.
	Waiting, Uploading []TenantCount
	// Failed are recordings whose upload was given up, by code, that nobody retried.
	Failed []TenantCount
	// Dead are events that could not be applied, by reason, at most 10,000 of each tenant: the oldest.
	Dead []TenantCount
	// Partial are events of the last 24 hours that were applied without a field, at most 1,000 of each tenant.
	Partial []TenantCount
	// Unended are calls whose end nobody reported: Suspects at this time, at most 1,000 of each tenant.
	Unended []TenantCount
	// Calls are those whose first event came within an hour, by the number of their state.
	Calls []TenantCount
}

// SettleAfter is how long after its start a call may be without an end, and that nobody asks for it. SuspectFor is how long
// the end of a call is asked about.
const (
	SettleAfter = 15 * time.Minute
	SuspectFor  = 7 * 24 * time.Hour
)

// Statements of TenantCounts: each selects a tenant, a label, a count and the oldest time.
const (
	waitingCounts = `SELECT coalesce(m.tenant, $1), CASE WHEN t.suspended THEN $4
			WHEN last_error_code = '' OR last_error_code = ANY ($2) THEN last_error_code ELSE $3 END,
			count(*), min(created_at) FILTER (WHERE t.suspended IS NOT TRUE)
		FROM recordings LEFT JOIN metric_tenants m USING (tenant) LEFT JOIN tenants t USING (tenant)
		WHERE lease_owner IS NULL GROUP BY 1, 2`
	uploadingCounts = `SELECT coalesce(m.tenant, $1), '', count(*), min(created_at)
		FROM recordings LEFT JOIN metric_tenants m USING (tenant) WHERE lease_owner IS NOT NULL GROUP BY 1`
	failedCounts = `SELECT coalesce(m.tenant, $1), CASE WHEN last_error_code = ANY ($2) THEN last_error_code ELSE $3 END,
			count(*), NULL::timestamptz
		FROM recording_history LEFT JOIN metric_tenants m USING (tenant) WHERE state = 'failed' GROUP BY 1, 2`
	deadCounts = `SELECT coalesce(m.tenant, $1), CASE WHEN dead_reason = ANY ($2) THEN dead_reason ELSE $3 END,
			count(*), min(received_at)
		FROM tenants t LEFT JOIN metric_tenants m USING (tenant), LATERAL (SELECT dead_reason, received_at FROM call_events e
			WHERE e.tenant = t.tenant AND dead_reason IS NOT NULL ORDER BY id LIMIT 10000) dead GROUP BY 1, 2`
	partialCounts = `SELECT coalesce(m.tenant, $1), '', sum(partial.n)::bigint, NULL::timestamptz
		FROM tenants t LEFT JOIN metric_tenants m USING (tenant), LATERAL (SELECT count(*) AS n FROM (
			SELECT FROM call_events e WHERE e.tenant = t.tenant AND e.received_at >= now() - interval '24 hours'
				AND e.unread IS NOT NULL LIMIT 1000) found) partial GROUP BY 1`
	callCounts = `SELECT coalesce(m.tenant, $1), recent.state::text, sum(recent.n)::bigint, NULL::timestamptz
		FROM tenants t LEFT JOIN metric_tenants m USING (tenant), LATERAL (SELECT state, count(*) AS n FROM calls c
			WHERE c.tenant = t.tenant AND c.created_at >= now() - interval '1 hour' GROUP BY state) recent GROUP BY 1, 2`
)

// unendedCounts is another such statement.
var unendedCounts = `SELECT coalesce(m.tenant, $1), '', sum(found.n)::bigint, min(found.oldest)
	FROM tenants t LEFT JOIN metric_tenants m USING (tenant), LATERAL (SELECT count(*) AS n, min(at) AS oldest FROM (
		SELECT coalesce(started_at, created_at) AS at FROM calls c WHERE c.tenant = t.tenant AND ` + unended + `
			AND coalesce(started_at, created_at) >= now() - $2::interval
			AND coalesce(started_at, created_at) < now() - $3::interval LIMIT 1000) listed) found GROUP BY 1`

// TenantCounts counts what waits, what failed and what happened. Codes that are not known are counted as otherCode.
func (d *Operator) TenantCounts(ctx context.Context, known []string) (c TenantCounts, err error) {
	batch := &pgx.Batch{}
	count := func(into *[]TenantCount, sql string, args ...any) {
		batch.Queue(sql, append([]any{otherTenants}, args...)...).Query(func(rows pgx.Rows) (err error) {
			*into, err = pgx.CollectRows(rows, scanTenantCount)
			return err
		})
	}
	count(&c.Waiting, waitingCounts, known, otherCode, codeSuspended)
	count(&c.Uploading, uploadingCounts)
	count(&c.Failed, failedCounts, known, otherCode)
	count(&c.Dead, deadCounts, reason.Dead(), reason.DeadOther)
	count(&c.Partial, partialCounts)
	count(&c.Unended, unendedCounts, SuspectFor, SettleAfter)
	count(&c.Calls, callCounts)
	return c, explain(d.pool.SendBatch(ctx, batch).Close())
}

func scanTenantCount(row pgx.CollectableRow) (c TenantCount, err error) {
	var oldest *time.Time
	err = row.Scan(&c.Tenant, &c.Label, &c.Count, &oldest)
	c.Oldest = orZero(oldest)
	return c, err
}

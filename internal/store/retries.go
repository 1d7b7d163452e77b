package store

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/resilience"
)

// AddRetries adds what an upload pod counted, by dependency, to its tenant's statistics: all of it or, with an error, nothing.
func (d *Upload) AddRetries(ctx context.Context, tenant string, counts map[string]resilience.Counts) error {
	batch := &pgx.Batch{}
	for _, dependency := range slices.Sorted(maps.Keys(counts)) { // one order, so that two pods do not wait for each other
		c := counts[dependency]
		batch.Queue(`INSERT INTO retry_statistics AS s (tenant, dependency, retries, successful, failed, breaker_opened)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, dependency) DO UPDATE
				SET retries = s.retries + excluded.retries,
			successful = s.successful + excluded.successful, failed = s.failed + excluded.failed,
			breaker_opened = s.breaker_opened + excluded.breaker_opened`,
			tenant, dependency, c.Retries, c.Successful, c.Failed, c.BreakerOpened)
	}
	return explain(d.pool.SendBatch(ctx, batch).Close()) // one implicit transaction
}

// AddProcessRetries adds what a pod of the operator or of the data plane counted, by dependency, to the totals: all of it
// or, with an error, nothing. A dependency without a row counts as "other".
func (d common) AddProcessRetries(ctx context.Context, counts map[string]resilience.Counts) error {
	batch := &pgx.Batch{}
	for _, dependency := range slices.Sorted(maps.Keys(counts)) { // one order, so that two pods do not wait for each other
		c := counts[dependency]
		// What a total may have before it grows is bounded, so that no total can make the sum fail.
		batch.Queue(`UPDATE retry_totals SET retries = least(retries, 1::bigint << 61) + $2,
				successful = least(successful, 1::bigint << 61) + $3, failed = least(failed, 1::bigint << 61) + $4,
				breaker_opened = least(breaker_opened, 1::bigint << 61) + $5
			WHERE dependency = coalesce((SELECT dependency FROM retry_totals WHERE dependency = $1), 'other')`,
			dependency, c.Retries, c.Successful, c.Failed, c.BreakerOpened)
	}
	return explain(d.pool.SendBatch(ctx, batch).Close()) // one implicit transaction
}

// RetryTotals are the sums over all tenants and pods, by dependency. They never fall: what a deleted tenant counted stays
// in them.
func (d common) RetryTotals(ctx context.Context) (map[string]resilience.Counts, error) {
	rows, err := d.pool.Query(
		ctx, `SELECT dependency, retries, successful, failed, breaker_opened FROM caly_retry_totals()`,
	)
	if err != nil {
		return nil, explain(err)
	}
	totals := map[string]resilience.Counts{}
	var dependency string
	var c resilience.Counts
	_, err = pgx.ForEachRow(
		rows, []any{&dependency, &c.Retries, &c.Successful, &c.Failed, &c.BreakerOpened},
		func() error {
			totals[dependency] = c
			return nil
		},
	)
	return totals, explain(err)
}

// deletedTenant keeps the sums of tenants whose rows were deleted: a counter that fell would look like a restarted
// one.
const deletedTenant = "(deleted)"

// forgetRetries folds a tenant's statistics into those of the tenants that are gone, in one statement.
func (d *Operator) forgetRetries(ctx context.Context, tenant string) error {
	_, err := d.pool.Exec(ctx, `
		WITH gone AS (DELETE FROM retry_statistics WHERE tenant = $1 RETURNING *)
		INSERT INTO retry_statistics AS s (tenant, dependency, retries, successful, failed, breaker_opened)
		SELECT $2, dependency, retries, successful, failed, breaker_opened FROM gone
		ON CONFLICT (tenant, dependency) DO UPDATE
			SET retries = s.retries + excluded.retries, successful = s.successful + excluded.successful,
			failed = s.failed + excluded.failed,
			breaker_opened = s.breaker_opened + excluded.breaker_opened`, tenant, deletedTenant)
	return explain(err)
}

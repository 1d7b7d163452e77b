package store

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// BackfillTotal counts a tenant's calls of one result since the database has the table, version 40 of the schema.
type BackfillTotal struct {
	// Tenant is the tenant's ID, or otherTenants.
	Tenant string
	Result string
	Calls  int64
}

// AddBackfill adds the calls of a run of backfill, by result, to a tenant's totals: all of them or, with an error, none.
// The results are written in code, so that a tenant has few rows. A result without calls has a row too, so that its series
// begins at zero; a later run without calls writes nothing.
func (d *Operator) AddBackfill(ctx context.Context, tenant string, calls map[string]int64) error {
	batch := &pgx.Batch{}
	for _, result := range slices.Sorted(maps.Keys(calls)) {
		batch.Queue(`INSERT INTO backfill_totals AS t (tenant, result, calls)
			VALUES (coalesce((SELECT tenant FROM metric_tenants WHERE tenant = $1), $2), $3, $4)
			ON CONFLICT (tenant, result) DO UPDATE SET calls = t.calls + excluded.calls
			WHERE excluded.calls > 0`,
			tenant, otherTenants, result, calls[result])
	}
	return explain(d.pool.SendBatch(ctx, batch).Close()) // one implicit transaction
}

// BackfillTotals returns the totals of all tenants.
func (d *Operator) BackfillTotals(ctx context.Context) ([]BackfillTotal, error) {
	rows, err := d.pool.Query(ctx, `SELECT tenant, result, calls FROM backfill_totals ORDER BY tenant, result`)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[BackfillTotal])
	return list, explain(err)
}

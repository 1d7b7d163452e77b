package store

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
)

// errTenantID is returned for an id that would name several tenants to row-level security.
var errTenantID = errors.New("the tenant's id must be namespace/name")

// inTenant runs fn in a transaction that sees and writes the rows of one tenant alone. The error is this package's; what fn returns
// passes through explain, so fn may return the driver's errors as they are.
func (d *base) inTenant(ctx context.Context, tenant string, fn func(pgx.Tx) error) error {
	return d.inTenants(ctx, []string{tenant}, fn)
}

// inTenants is inTenant for several tenants at once: what a pod does on its own account for all that it knows.
func (d *base) inTenants(ctx context.Context, tenants []string, fn func(pgx.Tx) error) error {
	set, err := tenantSetting(tenants)
	if err != nil {
		return err
	}
	leave, err := d.enter(ctx, tenants)
	if err != nil {
		return err
	}
	defer leave()
	return explainOnce(pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, d.setTenant, set); err != nil {
			return err
		}
		return fn(tx)
	}))
}

// setTenant binds the transaction to tenants.
const setTenant = `SELECT set_config('caly.tenant', $1, true)`

// oneTrip sends statements of one tenant in a single round trip, which is also their transaction. Add queries with what reads their
// rows; it returns the first error.
func (d *base) oneTrip(ctx context.Context, tenant string, add func(*pgx.Batch)) error {
	set, err := tenantSetting([]string{tenant})
	if err != nil {
		return err
	}
	leave, err := d.enter(ctx, []string{tenant})
	if err != nil {
		return err
	}
	defer leave()
	var b pgx.Batch
	b.Queue(d.setTenant, set)
	add(&b)
	return explainOnce(d.pool.SendBatch(ctx, &b).Close())
}

// ErrTenantBusy is returned when a tenant's own transactions hold its share of the connections, and as many as may
// wait are waiting or the context ended first.
const ErrTenantBusy refusal = "the tenant's own requests hold its share of the database connections; retry later"

// enter waits until a transaction of one tenant may take a connection.
func (d *base) enter(ctx context.Context, tenants []string) (leave func(), err error) {
	if d.gate == nil || len(tenants) != 1 {
		return func() {}, nil
	}
	ctx, cancel := d.pool.bound(ctx)
	defer cancel()
	leave, err = d.gate.Acquire(ctx, tenants[0])
	switch {
	case errors.Is(err, context.Canceled):
		return nil, err
	case err != nil:
		return nil, ErrTenantBusy
	}
	return leave, nil
}

func tenantSetting(tenants []string) (string, error) {
	for _, t := range tenants {
		if strings.Count(t, "/") != 1 || strings.ContainsRune(t, ',') {
			return "", errTenantID
		}
	}
	return strings.Join(tenants, ","), nil
}

// explainOnce leaves this package's own errors as they are.
func explainOnce(err error) error {
	var server *ServerError
	var own refusal
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnavailable) || errors.As(err, &server) ||
		errors.As(err, &own) {
		return err
	}
	return explain(err)
}

package store

import "context"

// KnowsTenant tells whether the operator has ever seen a Tenant of that id. It is the operator's.
func (d *Operator) KnowsTenant(ctx context.Context, tenant string) (known bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM tenants WHERE tenant = $1)`, tenant).Scan(&known)
	return known, explain(err)
}

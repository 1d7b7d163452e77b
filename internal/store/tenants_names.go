package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Kinds of a Name.
const (
	// NameAccount is the id of an Exotel account.
	NameAccount = "account"
	// NameHost is a host name of the API.
	NameHost = "host"
	// NameNumber is a telephone number.
	NameNumber = "number"
	// NameObject is the name that a tenant's Secrets, Job and database role are derived from.
	NameObject = "object"
)

// Name is a name that is unique on the platform.
type Name struct {
	Kind string
	Name string
}

// NameHolder is a tenant that holds a Name.
type NameHolder struct {
	Tenant string
	UID    string
	// Shared reports that the tenant shares the name with its owner. Accounts alone can be shared.
	Shared bool
}

// NameClaim is the names that a tenant has published, for SeedNames.
type NameClaim struct {
	Tenant string
	UID    string
	Names  []Name
}

// lockNames serializes the transactions that change tenant_names. They are rare and short.
const lockNames = `SELECT pg_advisory_xact_lock(hashtextextended('caly_tenant_names', 0))`

// changeNames runs fn in a transaction that no other change of names overlaps.
func (d *Operator) changeNames(ctx context.Context, fn func(pgx.Tx) error) error {
	return explainOnce(pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockNames); err != nil {
			return err
		}
		return fn(tx)
	}))
}

// ClaimNames gives a tenant those of the names that no tenant holds. It returns the names that the tenant holds
// afterwards. Names of a predecessor with another UID are released first.
func (d *Operator) ClaimNames(ctx context.Context, tenant, uid string, names []Name) (held []Name, err error) {
	kinds, list := nameColumns(names)
	err = d.changeNames(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM tenant_names WHERE tenant = $1 AND uid <> $2`, tenant, uid); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, promoteNames); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO tenant_names (kind, name, tenant, uid)
			SELECT DISTINCT w.kind, w.name, $1, $2 FROM unnest($3::text[], $4::text[]) AS w (kind, name)
			WHERE NOT EXISTS (SELECT FROM tenant_names t WHERE t.kind = w.kind AND t.name = w.name)`,
			tenant, uid, kinds, list); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT kind, name FROM tenant_names WHERE tenant = $1 ORDER BY kind, name`, tenant)
		if err != nil {
			return err
		}
		held, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
		return err
	})
	return held, err
}

// promoteNames makes the oldest sharer of an account without an owner its owner.
const promoteNames = `UPDATE tenant_names t SET shared = false WHERE shared AND tenant = (
	SELECT s.tenant FROM tenant_names s WHERE s.kind = t.kind AND s.name = t.name
	ORDER BY s.shared, s.claimed_at, s.tenant LIMIT 1)`

// ReleaseNames takes from a tenant all names except those to keep. It returns the names that it took.
func (d *Operator) ReleaseNames(ctx context.Context, tenant, uid string, keep []Name) (released []Name, err error) {
	kinds, list := nameColumns(keep)
	err = d.changeNames(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `DELETE FROM tenant_names t WHERE tenant = $1 AND uid = $2
			AND NOT EXISTS (SELECT FROM unnest($3::text[], $4::text[]) AS k (kind, name)
				WHERE k.kind = t.kind AND k.name = t.name)
			RETURNING kind, name`, tenant, uid, kinds, list)
		if err != nil {
			return err
		}
		if released, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Name]); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, promoteNames)
		return err
	})
	return released, err
}

// ShareAccount gives a tenant, the sharer, a share of an account that the owner holds. It reports whether it did: the
// owner may have released the account meanwhile.
func (d *Operator) ShareAccount(
	ctx context.Context, account string, owner, sharer NameHolder,
) (shared bool, err error) {
	err = d.changeNames(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO tenant_names (kind, name, tenant, uid, shared)
			SELECT kind, name, $1, $2, true FROM tenant_names
			WHERE kind = 'account' AND name = $3 AND tenant = $4 AND uid = $5 AND NOT shared
			ON CONFLICT (kind, name, tenant) DO NOTHING`, sharer.Tenant, sharer.UID, account, owner.Tenant, owner.UID)
		shared = tag.RowsAffected() > 0
		return err
	})
	return shared, err
}

// HeldNames returns the names that a tenant holds.
func (d *Operator) HeldNames(ctx context.Context, tenant, uid string) ([]Name, error) {
	rows, err := d.pool.Query(ctx, `SELECT kind, name FROM tenant_names WHERE tenant = $1 AND uid = $2
		ORDER BY kind, name`, tenant, uid)
	if err != nil {
		return nil, explain(err)
	}
	held, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
	return held, explain(err)
}

// NameHolders returns the tenants that hold a name, its owner first.
func (d *Operator) NameHolders(ctx context.Context, name Name) ([]NameHolder, error) {
	rows, err := d.pool.Query(ctx, `SELECT tenant, uid, shared FROM tenant_names WHERE kind = $1 AND name = $2
		ORDER BY shared, claimed_at, tenant`, name.Kind, name.Name)
	if err != nil {
		return nil, explain(err)
	}
	holders, err := pgx.CollectRows(rows, pgx.RowToStructByPos[NameHolder])
	return holders, explain(err)
}

// TenantsWithNames returns each tenant that holds a name, with its UID.
func (d *Operator) TenantsWithNames(ctx context.Context) ([]NameHolder, error) {
	rows, err := d.pool.Query(ctx, `SELECT DISTINCT tenant, uid, false FROM tenant_names ORDER BY tenant, uid`)
	if err != nil {
		return nil, explain(err)
	}
	holders, err := pgx.CollectRows(rows, pgx.RowToStructByPos[NameHolder])
	return holders, explain(err)
}

// NamesSeeded reports whether any tenant holds a name.
func (d *Operator) NamesSeeded(ctx context.Context) (seeded bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM tenant_names)`).Scan(&seeded)
	return seeded, explain(err)
}

// SeedNames stores the names that tenants have published already, if no tenant holds a name yet: after an upgrade
// from a version without owners of names. The first claim of a name wins. Later claims of an account share it, as
// before.
func (d *Operator) SeedNames(ctx context.Context, claims []NameClaim) error {
	return d.changeNames(ctx, func(tx pgx.Tx) error {
		var seeded bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM tenant_names)`).Scan(&seeded); err != nil || seeded {
			return err
		}
		for _, claim := range claims {
			kinds, list := nameColumns(claim.Names)
			if _, err := tx.Exec(ctx, `INSERT INTO tenant_names (kind, name, tenant, uid, shared)
				SELECT DISTINCT w.kind, w.name, $1, $2, held FROM unnest($3::text[], $4::text[]) AS w (kind, name),
					LATERAL (SELECT EXISTS (SELECT FROM tenant_names t WHERE t.kind = w.kind AND t.name = w.name) AS held) h
				WHERE w.kind = 'account' OR NOT held
				ON CONFLICT DO NOTHING`, claim.Tenant, claim.UID, kinds, list); err != nil {
				return err
			}
		}
		return nil
	})
}

// nameColumns returns the kinds and the names as two arrays.
func nameColumns(names []Name) (kinds, list []string) {
	kinds = make([]string, len(names))
	list = make([]string, len(names))
	for i, n := range names {
		kinds[i] = n.Kind
		list[i] = n.Name
	}
	return kinds, list
}

package store

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// endTenant is the reason of login sessions that ended with their Tenant.
const endTenant = "tenant_deleted"

// unrecorded begins the identifier of a predecessor whose UID nobody recorded. The UID of the Tenant that found its
// rows follows.
const unrecorded = "unrecorded-"

// dataTables hold what a successor could reach of a predecessor. Rows of the other tables are counters and expire.
var dataTables = []string{
	"users",
	"calls",
	"call_events",
	"call_streams",
	"signed_repeats",
	"recordings",
	"recording_history",
	"captures",
	"stream_sessions",
	"audit_log",
	"mail_outbox",
}

// ClaimTenant records that the rows of a tenant belong to the Tenant object with this UID, unless they belong to
// another one. It returns the UID that they belong to. Where nobody recorded it, the rows belong to the Tenant if it
// was compiled before, and to an unknown predecessor otherwise. A predecessor without any data is replaced.
func (d *Operator) ClaimTenant(ctx context.Context, tenant, uid string, compiled bool) (owner string, err error) {
	owner, err = d.tenantOwner(ctx, tenant)
	if err != nil || owner == uid {
		return owner, err
	}
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		owner, err = claim(ctx, tx, tenant, uid, compiled)
		return err
	})
	return owner, err
}

// tenantOwner returns the recorded UID; it is empty without a row.
func (d *Operator) tenantOwner(ctx context.Context, tenant string) (owner string, err error) {
	err = d.pool.QueryRow(ctx, `SELECT coalesce((SELECT uid FROM tenants WHERE tenant = $1), '')`, tenant).Scan(&owner)
	return owner, explain(err)
}

func claim(ctx context.Context, tx pgx.Tx, tenant, uid string, compiled bool) (owner string, err error) {
	if _, err = tx.Exec(ctx, `INSERT INTO tenants (tenant) VALUES ($1) ON CONFLICT DO NOTHING`, tenant); err != nil {
		return "", err
	}
	err = tx.QueryRow(ctx, `SELECT uid FROM tenants WHERE tenant = $1 FOR UPDATE`, tenant).Scan(&owner)
	if err != nil || owner == uid {
		return owner, err
	}
	mine := owner == "" && compiled
	if !mine {
		holds, err := holdsData(ctx, tx, tenant)
		if err != nil || (holds && owner != "") {
			return owner, err
		}
		mine = !holds
	}
	if owner = uid; !mine {
		owner = unrecorded + uid
	}
	_, err = tx.Exec(ctx, `UPDATE tenants SET uid = $2, updated_at = now() WHERE tenant = $1`, tenant, owner)
	return owner, err
}

func holdsData(ctx context.Context, tx pgx.Tx, tenant string) (holds bool, err error) {
	parts := make([]string, 0, len(dataTables))
	for _, table := range dataTables {
		parts = append(parts, `EXISTS (SELECT FROM `+table+` WHERE tenant = $1)`)
	}
	err = tx.QueryRow(ctx, `SELECT `+strings.Join(parts, ` OR `), tenant).Scan(&holds)
	return holds, err
}

// AdoptTenant gives the rows of a predecessor to the Tenant object with this UID. ErrNotFound when they do not belong
// to the predecessor any more. The predecessor's login sessions and codes end first.
func (d *Operator) AdoptTenant(ctx context.Context, tenant, predecessor, uid string) error {
	if err := d.EndAccess(ctx, tenant); err != nil {
		return err
	}
	return d.succeed(ctx, tenant, predecessor, uid, actionPredecessorAdopted)
}

// ReplaceTenant deletes the rows of a predecessor, its audit log included, and records the Tenant object with this UID
// as the owner of what comes. ErrNotFound when they do not belong to the predecessor any more.
func (d *Operator) ReplaceTenant(ctx context.Context, tenant, predecessor, uid string) error {
	owner, err := d.tenantOwner(ctx, tenant)
	if err != nil {
		return err
	}
	if owner != predecessor {
		return ErrNotFound
	}
	if err := d.deleteRows(ctx, tenant); err != nil {
		return err
	}
	return d.succeed(ctx, tenant, predecessor, uid, actionPredecessorDeleted)
}

// succeed records the new owner of a tenant's rows, and in the audit log what was decided about the predecessor's.
func (d *Operator) succeed(ctx context.Context, tenant, predecessor, uid, action string) error {
	return d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE tenants SET uid = $3, updated_at = now() WHERE tenant = $1 AND uid = $2`,
			tenant, predecessor, uid)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		row := Origin{}.success(action, "")
		row.Reason = "UID " + predecessor
		return insertAudit(ctx, tx, tenant, row)
	})
}

// endAccess are the statements that end what gives access to a tenant. Each works on at most 5000 rows and is
// repeated until it finds none.
var endAccess = []string{
	`UPDATE login_sessions SET ended_at = now(), end_reason = '` + endTenant + `' WHERE ctid IN (
		SELECT ctid FROM login_sessions WHERE tenant = $1 AND ended_at IS NULL LIMIT 5000)`,
	`DELETE FROM email_codes WHERE ctid IN (SELECT ctid FROM email_codes WHERE tenant = $1 LIMIT 5000)`,
	`DELETE FROM password_reset_tokens WHERE ctid IN (
		SELECT ctid FROM password_reset_tokens WHERE tenant = $1 LIMIT 5000)`,
	`UPDATE mail_outbox SET state = 'failed', last_error = 'the Tenant was deleted', sealed = '', lease_owner = NULL,
		lease_until = NULL, finished_at = now() WHERE ctid IN (
		SELECT ctid FROM mail_outbox WHERE tenant = $1 AND state IN ('pending', 'sending') LIMIT 5000)`,
}

// EndAccess ends the login sessions of a tenant with their refresh tokens, its codes, its reset tokens and the mail
// that carries them, and revokes all access tokens. It is the operator's.
func (d *Operator) EndAccess(ctx context.Context, tenant string) error {
	for _, sql := range endAccess {
		if err := d.repeat(ctx, sql, tenant); err != nil {
			return err
		}
	}
	return d.Revoke(ctx, tenant, "", "")
}

// repeat executes a statement on a tenant until it changes no row.
func (d *Operator) repeat(ctx context.Context, sql, tenant string) error {
	for {
		tag, err := d.pool.Exec(ctx, sql, tenant)
		if err != nil {
			return explain(err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
	}
}

// RequireLabels reports whether Secrets that Tenants name need a label by default: an installation that had no Tenant
// when the database learned of it requires labels, an older one does not.
func (d *Operator) RequireLabels(ctx context.Context) (require bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT require_labels FROM installation`).Scan(&require)
	return require, explain(err)
}

// KnowsTenant reports whether the operator has ever seen a Tenant of that id.
func (d *Operator) KnowsTenant(ctx context.Context, tenant string) (known bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM tenants WHERE tenant = $1)`, tenant).Scan(&known)
	return known, explain(err)
}

// OwnedTenants returns the ids of the tenants whose rows belong to the Tenant object with the UID that is given for the
// id, in their order.
func (d *Operator) OwnedTenants(ctx context.Context, uids map[string]string) ([]string, error) {
	ids := make([]string, 0, len(uids))
	owners := make([]string, 0, len(uids))
	for id, uid := range uids {
		ids = append(ids, id)
		owners = append(owners, uid)
	}
	rows, err := d.pool.Query(ctx, `SELECT tenant FROM tenants
		JOIN unnest($1::text[], $2::text[]) AS given(tenant, uid) USING (tenant, uid)
		WHERE given.uid <> '' ORDER BY tenant COLLATE "C"`, ids, owners)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, explain(err)
}

// SuspendTenant stops the claims of a tenant or allows them again. A tenant that becomes suspended also loses the
// access of its users.
func (d *Operator) SuspendTenant(ctx context.Context, tenant string, suspended bool) error {
	return d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO tenants AS t (tenant, suspended) VALUES ($1, $2)
			ON CONFLICT (tenant) DO UPDATE SET suspended = excluded.suspended, updated_at = now()
			WHERE t.suspended <> excluded.suspended`,
			tenant, suspended)
		if err != nil || !suspended || tag.RowsAffected() == 0 {
			return err
		}
		return insertRevocation(ctx, tx, tenant, "", "")
	})
}

// tenantTables hold the rows of tenants; what others refer to comes last.
var tenantTables = []string{"endings", "ending_totals", "backfill_totals", "metric_tenants", "url_redactions",
	"recordings", "recording_history", "call_events", "signed_repeats", "call_streams", "calls",
	"email_codes", "password_reset_tokens", "login_sessions", "refresh_token_blacklist", "users",
	"revocations", "rate_limits", "mail_outbox", "audit_log", "captures", "stream_sessions"}

// DeleteTenant removes every row of a tenant, in batches, so that no transaction grows with the tenant.
func (d *Operator) DeleteTenant(ctx context.Context, tenant string) error {
	if err := d.deleteRows(ctx, tenant); err != nil {
		return err
	}
	_, err := d.pool.Exec(ctx, `DELETE FROM tenants WHERE tenant = $1`, tenant)
	return explain(err)
}

// deleteRows removes every row of a tenant but the one that names its owner.
func (d *Operator) deleteRows(ctx context.Context, tenant string) error {
	for _, table := range tenantTables {
		sql := `DELETE FROM ` + table + ` WHERE (tableoid, ctid) IN (
			SELECT tableoid, ctid FROM ` + table + ` WHERE tenant = $1 LIMIT 5000)`
		if err := d.repeat(ctx, sql, tenant); err != nil {
			return err
		}
	}
	return d.forgetRetries(ctx, tenant)
}

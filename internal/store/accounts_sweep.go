package store

import (
	"context"
	"time"
)

// Keep says for how long rows of accounts are kept that nobody can use any more.
type Keep struct {
	// Sessions after their end, Unverified accounts after they were made, Audit rows.
	Sessions, Unverified, Audit time.Duration
}

// DefaultKeep is a month of sessions, a week for an email to be verified, a year of the audit log.
var DefaultKeep = Keep{Sessions: 30 * 24 * time.Hour, Unverified: 7 * 24 * time.Hour, Audit: 365 * 24 * time.Hour}

// SweepAccounts deletes what has expired: codes, tokens, sessions, accounts that were registered and never verified,
// and old rows of the audit log, of all tenants and of each at most limit. It returns how many rows. Only the operator
// may.
func (d *Operator) SweepAccounts(ctx context.Context, keep Keep, limit int) (int64, error) {
	var total int64
	for _, p := range []struct {
		sql string
		age time.Duration
	}{
		{
			`DELETE FROM email_codes WHERE ctid IN (SELECT ctid FROM email_codes
				WHERE expires_at < now() - $1::interval LIMIT $2)`,
			0,
		},
		{
			`DELETE FROM password_reset_tokens WHERE ctid IN (SELECT ctid FROM password_reset_tokens
				WHERE expires_at < now() - $1::interval LIMIT $2)`,
			0,
		},
		{
			`DELETE FROM refresh_token_blacklist WHERE ctid IN (SELECT ctid FROM refresh_token_blacklist
				WHERE expires_at < now() - $1::interval LIMIT $2)`,
			0,
		},
		{
			`WITH removed AS (DELETE FROM login_sessions WHERE ctid IN (SELECT ctid FROM login_sessions
				WHERE expires_at < now() - $1::interval LIMIT $2) RETURNING tenant),
			counted AS (UPDATE cleanup_totals SET login_sessions = login_sessions + (SELECT count(*) FROM removed)
				WHERE EXISTS (SELECT FROM removed))
			SELECT FROM removed`,
			keep.Sessions,
		},
		// An invitation stays, for an admin to see; who was invited may ask for a new token.
		{`DELETE FROM users WHERE ctid IN (SELECT ctid FROM users WHERE email_verified_at IS NULL
			AND password_hash <> ''
			AND updated_at < now() - $1::interval LIMIT $2)`, keep.Unverified},
		// In the order of their ids, which is that of their times within what a transaction takes: no index on the time is needed.
		{
			`DELETE FROM audit_log WHERE id IN (SELECT id FROM (SELECT id, at FROM audit_log
				ORDER BY id LIMIT $2) oldest WHERE at < now() - $1::interval)`,
			keep.Audit,
		},
	} {
		tag, err := d.pool.Exec(ctx, p.sql, p.age, limit)
		if err != nil {
			return total, explain(err)
		}
		total += tag.RowsAffected()
	}
	return total, nil
}

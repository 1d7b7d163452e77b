package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// MailState is how the sending of mail ended.
type MailState string

// States that mail ends in. All of them are for good.
const (
	// MailSent means that the server accepted the message, or that there was nothing to send.
	MailSent MailState = "sent"
	// MailFailed means that the message was refused permanently, or that it expired.
	MailFailed MailState = "failed"
	// MailUncertain means that the server got the message and did not answer. It is not sent again.
	MailUncertain MailState = "uncertain"
)

// QueuedMail is mail that was claimed.
type QueuedMail struct {
	ID     int64
	Tenant string
	// Owner holds it, until the lease runs out.
	Owner string
	OutboxMail
	// Attempts with the one that it was claimed for.
	Attempts  int
	CreatedAt time.Time
}

// MailClaim is what ClaimMail found.
type MailClaim struct {
	// Mail to be sent.
	Mail []QueuedMail
	// Uncertain is mail whose sender stopped without a word, and Expired is mail that was not sent in time.
	Uncertain, Expired []EndedMail
}

// EndedMail is mail that can no longer be sent.
type EndedMail struct{ Tenant, Template string }

// ClaimMail leases mail of the tenants that is due, the longest due first, up to limit. Other tenants' is not looked at.
// First it ends what can no longer be sent.
func (d *Dataplane) ClaimMail(
	ctx context.Context, tenants []string, owner string, lease time.Duration, limit int,
) (MailClaim, error) {
	var c MailClaim
	err := d.inTenants(ctx, tenants, func(tx pgx.Tx) error {
		var err error
		if c.Uncertain, err = endMail(
			ctx,
			tx,
			MailUncertain,
			`state = 'sending' AND lease_until < now()`,
			"its sender stopped before the server's answer: it may have arrived, and is not sent again",
		); err != nil {
			return err
		}
		if c.Expired, err = endMail(
			ctx,
			tx,
			MailFailed,
			`state = 'pending' AND expires_at <= now() AND (lease_until IS NULL OR lease_until < now())`,
			"",
		); err != nil {
			return err
		}
		c.Mail, err = claimMail(ctx, tx, owner, lease, limit)
		return err
	})
	return c, err
}

// endMail ends mail that a condition holds for, some at a time, and returns it. An empty reason leaves the last one.
func endMail(ctx context.Context, tx pgx.Tx, state MailState, where, reason string) ([]EndedMail, error) {
	rows, err := tx.Query(
		ctx,
		`WITH over AS (SELECT id FROM mail_outbox WHERE `+where+` LIMIT 100 FOR UPDATE SKIP LOCKED)
		UPDATE mail_outbox m SET state = $1, last_error = coalesce(nullif($2, ''), nullif(last_error, ''),
			'its time ran out before it could be sent'), sealed = '', lease_owner = NULL, lease_until = NULL,
				finished_at = now()
		FROM over WHERE m.id = over.id RETURNING m.tenant, m.template`,
		string(state), reason,
	)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[EndedMail])
}

// claimMail leases due mail of all tenants that the caller's row-level security shows. Rows of other owners are
// skipped, not waited for.
func claimMail(ctx context.Context, tx pgx.Tx, owner string, lease time.Duration, limit int) ([]QueuedMail, error) {
	// Not id IN (...): that may run the inner query, which locks, once for every row.
	rows, err := tx.Query(ctx, `
		WITH due AS (
			SELECT id FROM mail_outbox WHERE state = 'pending' AND available_at <= now()
				AND (lease_until IS NULL OR lease_until < now())
			ORDER BY available_at, id LIMIT $3 FOR UPDATE SKIP LOCKED)
		UPDATE mail_outbox m SET attempts = attempts + 1, lease_owner = $1, lease_until = now() + $2::interval
			FROM due WHERE m.id = due.id
		RETURNING m.id, tenant, event_key, template, recipient, sealed, expires_at, attempts,
			created_at`, owner, lease, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (QueuedMail, error) {
		queuedMail := QueuedMail{Owner: owner}
		err := row.Scan(
			&queuedMail.ID,
			&queuedMail.Tenant,
			&queuedMail.EventKey,
			&queuedMail.Template,
			&queuedMail.Recipient,
			&queuedMail.Sealed,
			&queuedMail.ExpiresAt,
			&queuedMail.Attempts,
			&queuedMail.CreatedAt,
		)
		return queuedMail, err
	})
}

// held is the condition that the caller holds the claim of a message. Each claim counts an attempt. So only the last
// claim changes the message, whatever the pods are called.
const held = `id = $1 AND lease_owner = $2 AND attempts = $3`

// SendMail notes that claimed mail is about to be given to the server: from here on it is not sent again unless the server is known
// to have refused it. ErrLeaseLost if it is somebody else's by now, or its time has run out.
func (d *Dataplane) SendMail(ctx context.Context, m *QueuedMail, lease time.Duration) error {
	return d.changeMail(ctx, m, `UPDATE mail_outbox SET state = 'sending', lease_until = now() + $4::interval
		WHERE `+held+` AND state = 'pending' AND lease_until > now() AND expires_at > now()`, lease)
}

// FinishMail ends claimed mail and empties what was sealed. ErrLeaseLost as in SendMail.
func (d *Dataplane) FinishMail(ctx context.Context, m *QueuedMail, state MailState, reason string) error {
	return d.changeMail(
		ctx, m,
		`UPDATE mail_outbox SET state = $4, last_error = $5, sealed = '', lease_owner = NULL, lease_until = NULL,
		finished_at = now() WHERE `+held,
		string(state), reason,
	)
}

// RetryMail lets claimed mail be tried again after a while. ErrLeaseLost as in SendMail.
func (d *Dataplane) RetryMail(ctx context.Context, m *QueuedMail, after time.Duration, reason string) error {
	return d.changeMail(
		ctx, m,
		`UPDATE mail_outbox SET state = 'pending', last_error = $5, available_at = now() + $4::interval,
		lease_owner = NULL, lease_until = NULL WHERE `+held,
		after, reason,
	)
}

// changeMail runs a statement on a leased mail. ErrLeaseLost if another pod has the row, or has tried since.
func (d *Dataplane) changeMail(ctx context.Context, m *QueuedMail, sql string, args ...any) error {
	var n int64
	err := d.inTenant(ctx, m.Tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, append([]any{m.ID, m.Owner, m.Attempts}, args...)...)
		n = tag.RowsAffected()
		return err
	})
	if err == nil && n == 0 {
		return ErrLeaseLost
	}
	return err
}

// maxMailCounted bounds what counting mail may cost.
const maxMailCounted = 10_000

// PendingMail counts the tenants' mail that has not ended, up to 10,000, and returns when the oldest was written; zero without one.
func (d *Dataplane) PendingMail(ctx context.Context, tenants []string) (n int, oldest time.Time, err error) {
	var written *time.Time
	err = d.inTenants(ctx, tenants, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*), min(created_at)
			FROM (SELECT created_at FROM mail_outbox WHERE state IN ('pending', 'sending') LIMIT $1) AS
				waiting`, maxMailCounted).Scan(&n, &written)
	})
	if err == nil && written != nil {
		oldest = *written
	}
	return n, oldest, err
}

// SweepMail removes mail that ended longer ago than that, up to limit, and returns how much. It is the operator's.
func (d *Operator) SweepMail(ctx context.Context, after time.Duration, limit int) (int64, error) {
	tag, err := d.pool.Exec(ctx, `
		WITH old AS (SELECT id FROM mail_outbox WHERE finished_at < now() - $1::interval
			LIMIT $2 FOR UPDATE SKIP LOCKED)
		DELETE FROM mail_outbox m USING old WHERE m.id = old.id`, after, limit)
	return tag.RowsAffected(), explain(err)
}

// OutboxMail is mail that is written in the transaction of the change that it tells of.
type OutboxMail struct {
	// EventKey names the event within the tenant: mail for one event is sent once.
	EventKey string
	// Template names how it reads; Recipient is the address.
	Template, Recipient string
	// Sealed is what the template needs, encrypted.
	Sealed []byte
	// ExpiresAt is when sending it has become pointless.
	ExpiresAt time.Time
}

// MaxWaitingMail is the mail of one tenant that may wait to be sent when a request asks for more: a tenant whose mail
// nobody takes must not fill the table that all tenants share.
const MaxWaitingMail = 1000

// addAskedMail is addMail for mail that anyone can ask for. ErrMailFull when too much of the tenant's mail waits. Mail
// of what was done to an account is never refused.
func addAskedMail(ctx context.Context, tx pgx.Tx, tenant string, m *OutboxMail) error {
	var waiting int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM mail_outbox
		WHERE tenant = $1 AND state IN ('pending', 'sending') LIMIT $2) AS waiting`,
		tenant, MaxWaitingMail).Scan(&waiting)
	if err != nil {
		return err
	}
	if waiting >= MaxWaitingMail {
		return ErrMailFull
	}
	return addMail(ctx, tx, tenant, m)
}

// addMail writes a message into the outbox, unless m is nil or the event has a message already.
func addMail(ctx context.Context, tx pgx.Tx, tenant string, m *OutboxMail) error {
	if m == nil {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO mail_outbox (tenant, event_key, template, recipient, sealed, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, event_key) DO NOTHING`,
		tenant, m.EventKey, m.Template, m.Recipient, m.Sealed, m.ExpiresAt)
	return err
}

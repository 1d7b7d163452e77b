package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

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
		WHERE tenant = $1 AND state IN ('pending', 'sending') LIMIT $2) AS waiting`, tenant, MaxWaitingMail).Scan(&waiting)
	if err != nil {
		return err
	}
	if waiting >= MaxWaitingMail {
		return ErrMailFull
	}
	return addMail(ctx, tx, tenant, m)
}

// addMail puts mail into the outbox. Mail for an event that has some already is dropped; nil is none.
func addMail(ctx context.Context, tx pgx.Tx, tenant string, m *OutboxMail) error {
	if m == nil {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO mail_outbox (tenant, event_key, template, recipient, sealed, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, event_key) DO NOTHING`, tenant, m.EventKey, m.Template, m.Recipient, m.Sealed, m.ExpiresAt)
	return err
}

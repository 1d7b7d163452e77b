package store

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Actions of the audit log that other packages name. With those of the store alone they are a closed set.
const (
	ActionRegister        = "register"
	ActionVerifyEmail     = "verify_email"
	ActionLogin           = "login"
	ActionLogout          = "logout"
	ActionSessionRevoked  = "session_revoked"
	ActionSessionsRevoked = "sessions_revoked"
	ActionPasswordChanged = "password_changed"
	ActionUserDisabled    = "user_disabled"
	ActionStreamClosed    = "stream_closed"
	ActionStreamsClosed   = "streams_closed"
)

// Actions that the store alone names.
const (
	actionRefreshReuse           = "refresh_reuse"
	actionLogoutAll              = "logout_all"
	actionPasswordResetRequested = "password_reset_requested"
	actionPasswordReset          = "password_reset"
	actionUserCreated            = "user_created"
	actionUserInvited            = "user_invited"
	actionUserEnabled            = "user_enabled"
	actionUserRoleChanged        = "user_role_changed"
	actionPredecessorAdopted     = "predecessor_adopted"
	actionPredecessorDeleted     = "predecessor_deleted"
)

// Actions returns the closed set, in no order.
func Actions() []string {
	return []string{
		ActionRegister,
		ActionVerifyEmail,
		ActionLogin,
		actionRefreshReuse,
		ActionLogout,
		actionLogoutAll,
		ActionSessionRevoked,
		ActionSessionsRevoked,
		actionPasswordResetRequested,
		actionPasswordReset,
		ActionPasswordChanged,
		actionUserCreated,
		actionUserInvited,
		ActionUserDisabled,
		actionUserEnabled,
		actionUserRoleChanged,
		ActionStreamClosed,
		ActionStreamsClosed,
		actionPredecessorAdopted,
		actionPredecessorDeleted,
	}
}

// Outcomes of an audit row.
const (
	OutcomeSuccess = "success"
	OutcomeFailure = "failure"
)

// Origin is who asks for a change, and from where. The zero value is the platform's engineer at a shell.
type Origin struct {
	// ActorID and SessionID are empty for somebody who is not signed in.
	ActorID, SessionID string
	Address            netip.Addr
	Device, RequestID  string
}

// Audit is a row of the audit log. None of it is a secret.
type Audit struct {
	Origin
	// Action is of the closed set, Outcome one of two.
	Action, Outcome string
	// Subject is the email of the account that it is about.
	Subject string
	// Reason is a few words more.
	Reason string
}

// success returns a row for an action that succeeded.
func (o Origin) success(action, subject string) Audit {
	return Audit{Origin: o, Action: action, Outcome: OutcomeSuccess, Subject: subject}
}

// failure returns a row for an action that failed, with the reason.
func (o Origin) failure(action, subject, reason string) Audit {
	return Audit{Origin: o, Action: action, Outcome: OutcomeFailure, Subject: subject, Reason: reason}
}

// WriteAudit writes a row on its own: what failed has no transaction to be a part of.
func (d *Dataplane) WriteAudit(ctx context.Context, tenant string, a Audit) error {
	return d.oneTrip(ctx, tenant, func(b *pgx.Batch) { b.Queue(insertAuditSQL, a.values(tenant)...) })
}

// insertAudit adds a row in the transaction of the action that it describes.
func insertAudit(ctx context.Context, tx pgx.Tx, tenant string, a Audit) error {
	_, err := tx.Exec(ctx, insertAuditSQL, a.values(tenant)...)
	return err
}

const insertAuditSQL = `INSERT INTO audit_log (tenant, action, outcome, actor_id, subject, session_id, address, device, reason, request_id)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

// values returns the row's columns in the order of insertAuditSQL. Long subjects, devices and reasons are cut
// to the width of their column.
func (a Audit) values(tenant string) []any {
	return []any{
		tenant,
		a.Action,
		a.Outcome,
		orNull(a.ActorID),
		cut(a.Subject, 254),
		orNull(a.SessionID),
		addressOrNull(a.Address),
		cut(a.Device, 256),
		cut(a.Reason, 200),
		cut(a.RequestID, 64),
	}
}

// orNull returns nil for an empty text, which PostgreSQL stores as NULL.
func orNull(id string) *string {
	if id == "" {
		return nil
	}
	return &id
}

// addressOrNull returns nil for an invalid address. IPv4-mapped addresses become IPv4, and zones are dropped.
func addressOrNull(a netip.Addr) *netip.Addr {
	if !a.IsValid() {
		return nil
	}
	a = a.Unmap().WithZone("")
	return &a
}

// cut bounds a text to n characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	runes := []rune(s)
	return string(runes[:min(n, len(runes))])
}

// AuditFilter chooses rows of the audit log. Zero fields choose all.
type AuditFilter struct {
	Page
	// Action and Outcome of their closed sets; ActorID of a user.
	Action, Outcome, ActorID string
}

// AuditRow is a row of the audit log as it is kept.
type AuditRow struct {
	ID int64
	At time.Time
	Audit
}

// Position is the row's place in a list.
func (r *AuditRow) Position() Position { return Position{At: r.At, ID: strconv.FormatInt(r.ID, 10)} }

// ListAudit lists a tenant's audit log, the newest first, and tells whether there is more.
func (d *Dataplane) ListAudit(
	ctx context.Context, tenant string, f AuditFilter,
) (list []AuditRow, more bool, err error) {
	w := &filter{}
	w.add("tenant = $%d", tenant)
	w.match("action", f.Action)
	w.match("outcome", f.Outcome)
	if f.ActorID != "" {
		w.add("actor_id = $%d", f.ActorID)
	}
	w.page("at", "id", f.Page)
	sql := fmt.Sprintf(`SELECT id, at, action, outcome, coalesce(actor_id::text, ''), subject,
		coalesce(session_id::text, ''), address, device, reason,
		request_id FROM audit_log WHERE %s ORDER BY at DESC, id DESC LIMIT %d`, w, f.rows())
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) { b.Queue(sql, w.args...).Query(collect(&list, scanAudit)) })
	list, more = cutPage(list, f.Page)
	return list, more, err
}

// scanAudit reads a row of the audit log. A missing address stays invalid.
func scanAudit(row pgx.CollectableRow) (r AuditRow, err error) {
	var address *netip.Addr
	err = row.Scan(&r.ID, &r.At, &r.Action, &r.Outcome, &r.ActorID, &r.Subject,
		&r.SessionID, &address, &r.Device, &r.Reason, &r.RequestID)
	if address != nil {
		r.Address = *address
	}
	return r, err
}

package store

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

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
	sql := fmt.Sprintf(`SELECT id, at, action, outcome, coalesce(actor_id::text, ''), subject, coalesce(session_id::text, ''), address, device, reason,
		request_id FROM audit_log WHERE %s ORDER BY at DESC, id DESC LIMIT %d`, w, f.rows())
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) { b.Queue(sql, w.args...).Query(collect(&list, scanAudit)) })
	list, more = cutPage(list, f.Page)
	return list, more, err
}

func scanAudit(row pgx.CollectableRow) (r AuditRow, err error) {
	var address *netip.Addr
	err = row.Scan(&r.ID, &r.At, &r.Action, &r.Outcome, &r.ActorID, &r.Subject, &r.SessionID, &address, &r.Device, &r.Reason, &r.RequestID)
	if address != nil {
		r.Address = *address
	}
	return r, err
}

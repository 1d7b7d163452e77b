package tenantapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/internal/store"
)

// Event is a row of the audit log.
type Event struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	Action    string    `json:"action"`
	Outcome   string    `json:"outcome" enum:"success,failure"`
	ActorID   string    `json:"actorId,omitempty" doc:"The user who did it. Absent where nobody was signed in, or the platform did it."`
	Subject   string    `json:"subject,omitempty" doc:"The affected account's email; a stream's id is in reason."`
	SessionID string    `json:"sessionId,omitempty"`
	Address   string    `json:"address,omitempty" doc:"Where the request came from."`
	Device    string    `json:"device,omitempty" doc:"What the client called itself."`
	Reason    string    `json:"reason,omitempty"`
	RequestID string    `json:"requestId,omitempty"`
}

func eventOf(r store.AuditRow) Event {
	event := Event{
		ID:        strconv.FormatInt(r.ID, 10),
		At:        utc(r.At),
		Action:    r.Action,
		Outcome:   r.Outcome,
		ActorID:   r.ActorID,
		Subject:   r.Subject,
		SessionID: r.SessionID,
		Device:    r.Device,
		Reason:    r.Reason,
		RequestID: r.RequestID,
	}
	if r.Address.IsValid() {
		event.Address = r.Address.String()
	}
	return event
}

type auditQuery struct {
	Paging
	Span
	Action api.OneOf[auditActions] `query:"action"`

	Outcome string `query:"outcome" enum:"success,failure"`
	Actor   string `query:"actor" pattern:"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$" doc:"The id of the user who did it."`
}

// auditActions is the set of actions.
type auditActions struct{}

// Values returns it.
func (auditActions) Values() []string { return store.Actions() }

func (q *auditQuery) filter() (f store.AuditFilter, err error) {
	f.Page, err = page(q.Paging, q.Span)
	f.Action = string(q.Action)
	f.Outcome = q.Outcome
	f.ActorID = q.Actor
	if err == nil && q.Cursor != "" {
		if _, bad := strconv.ParseInt(f.After.ID, 10, 64); bad != nil {
			err = invalid("cursor", "is that of another list")
		}
	}
	return f, err
}

func (h handlers) audit(a *api.API) {
	api.Register(a, api.Operation{
		Method:      http.MethodGet,
		Path:        "/api/audit",
		ID:          "listAudit",
		Tag:         tenantTag,
		Access:      api.Roles(store.RoleAdmin),
		Summary:     "The audit log, the newest first",
		Description: "Who did what to which account, from where, and how it ended.",
	}, h.listAudit)
}

func (h handlers) listAudit(ctx context.Context, in *auditQuery) (*list[Event], error) {
	auditFilter, err := in.filter()
	if err != nil {
		return nil, err
	}
	rows, more, err := h.Store.ListAudit(ctx, tenantOf(ctx), auditFilter)
	if err != nil {
		return nil, err
	}
	return listOf(rows, more, eventOf, func(r store.AuditRow) store.Position { return r.Position() }), nil
}

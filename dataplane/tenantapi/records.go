// Package tenantapi is the part of the tenant API that shows what a tenant has: calls, audio streams, which its admins may close,
// recordings and links to download them, usage, the audit log, and the people, whom its admins invite, change and sign out.
package tenantapi

import (
	"context"
	"errors"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Inviter makes an account without a password and mails its owner the way to one. *account.Service is one.
type Inviter interface {
	Invite(ctx context.Context, t *tenantconfig.Tenant, email, role string) (store.User, error)
}

// Revoker shuts out a user at once, on this pod. *token.Revocations is one.
type Revoker interface {
	Revoke(tenant, userID, sessionID string)
}

// Options of Register.
type Options struct {
	Store   *store.Dataplane
	Inviter Inviter
	// Revoker may be nil: then this pod, as all others, reads what was revoked from the database.
	Revoker Revoker
	// Now is the time; nil: time.Now.
	Now func() time.Time
}

type handlers struct{ Options }

// Register adds the operations.
func Register(a *api.API, o Options) {
	if o.Now == nil {
		o.Now = time.Now
	}
	h := handlers{o}
	for _, add := range []func(*api.API){h.calls, h.streams, h.recordings, h.tenant, h.audit, h.users} {
		add(a)
	}
}

// Paging are the parameters of every list.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"So many items at most."`
	Cursor string `query:"cursor" maxLength:"512" doc:"The nextCursor of the page before; the other parameters must be the same."`
}

// Span are the parameters of lists in the order of time.
type Span struct {
	Since time.Time `query:"since" doc:"Only items from then on, such as 2026-01-31T10:00:00Z."`
	Until time.Time `query:"until" doc:"Only items before then."`
}

// page is a store.Page, or a problem.
func page(p Paging, s Span) (store.Page, error) {
	out := store.Page{Limit: p.Limit, Since: s.Since, Until: s.Until}
	if !s.Since.IsZero() && !s.Until.IsZero() && !s.Since.Before(s.Until) {
		return out, invalid("until", "must be after since")
	}
	if p.Cursor == "" {
		return out, nil
	}
	var ok bool
	if out.After, ok = parseCursor(p.Cursor); !ok {
		return out, invalid("cursor", "is not the nextCursor of an answer")
	}
	return out, nil
}

// list is a page of a list.
type list[T any] struct {
	Body struct {
		Items      []T    `json:"items"`
		NextCursor string `json:"nextCursor,omitempty" doc:"Gives the next page. Absent on the last one."`
	}
}

// listOf makes a page of the store's rows. last is the place of the last one.
func listOf[R, T any](rows []R, more bool, view func(R) T, last func(R) store.Position) *list[T] {
	out := &list[T]{}
	out.Body.Items = make([]T, len(rows))
	for i, r := range rows {
		out.Body.Items[i] = view(r)
	}
	if more && len(rows) > 0 {
		out.Body.NextCursor = formatCursor(last(rows[len(rows)-1]))
	}
	return out
}

func invalid(field, message string) error {
	return problem.New(problem.Validation, "the request is not valid").WithField(field, message)
}

// found makes a problem of a row that is not there; other errors pass.
func found(what string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return problem.New(problem.NotFound, "the tenant has no such "+what)
	}
	return err
}

func tenantOf(ctx context.Context) string { return api.TenantOf(ctx).ID }

// uuidPath names what has a UUID: a user, a stream.
type uuidPath struct {
	ID string `path:"id" pattern:"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"`
}

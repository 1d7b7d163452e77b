package tenantapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/store"
)

// Person is an account as the tenant's admins see it.
type Person struct {
	ID         string    `json:"id"`
	Email      string    `json:"email"`
	Role       string    `json:"role" enum:"admin,agent,viewer"`
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	Disabled   bool      `json:"disabled"`
	Invited    bool      `json:"invited" doc:"The invitation was not accepted yet."`
	CreatedAt  time.Time `json:"createdAt"`
	UpdatedAt  time.Time `json:"updatedAt"`
}

func personOf(u store.User) Person {
	return Person{
		ID:         u.ID,
		Email:      u.Email,
		Role:       u.Role,
		VerifiedAt: utc(u.VerifiedAt),
		Disabled:   u.Disabled(),
		Invited:    u.Invited,
		CreatedAt:  utc(u.CreatedAt),
		UpdatedAt:  utc(u.UpdatedAt),
	}
}

type usersQuery struct{ Paging }

type personOut struct{ Body Person }

type inviteIn struct {
	Body struct {
		Email string `json:"email" maxLength:"320" example:"jane@acme.example"`
		Role  string `json:"role" enum:"admin,agent,viewer"`
	}
}

type revokedOut struct {
	Body struct {
		Ended int `json:"ended" doc:"So many sessions were ended."`
	}
}

type changeIn struct {
	ID   string `path:"id" pattern:"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"`
	Body struct {
		Role     *string `json:"role,omitempty" enum:"admin,agent,viewer"`
		Disabled *bool   `json:"disabled,omitempty" doc:"Who is disabled can neither sign in nor go on."`
	}
}

const usersTag = "Users"

func (h handlers) users(a *api.API) {
	admins := api.Roles(store.RoleAdmin)
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/users",
		ID:      "listUsers",
		Tag:     usersTag,
		Access:  admins,
		Summary: "The tenant's people, by their emails",
	}, h.listUsers)
	api.Register(a, api.Operation{
		Method:      http.MethodPost,
		Path:        "/api/users",
		ID:          "inviteUser",
		Tag:         usersTag,
		Access:      admins,
		Status:      http.StatusCreated,
		Summary:     "Invite somebody",
		Description: "Makes an account and mails its owner a token that sets a password. It is good for a week.",
		Errors:      []problem.Code{problem.Conflict},
	}, h.inviteUser)
	api.Register(a, api.Operation{
		Method:      http.MethodPatch,
		Path:        "/api/users/{id}",
		ID:          "changeUser",
		Tag:         usersTag,
		Access:      admins,
		Summary:     "Change somebody's role, or disable an account",
		Description: "Earlier access tokens are no longer valid. The last admin who can sign in stays one.",
		Errors:      []problem.Code{problem.NotFound, problem.Conflict},
	}, h.changeUser)
	api.Register(a, api.Operation{
		Method:  http.MethodDelete,
		Path:    "/api/users/{id}/sessions",
		ID:      "revokeUserSessions",
		Tag:     usersTag,
		Access:  admins,
		Summary: "End all login sessions of somebody",
		Description: "Neither refresh nor access tokens of before are good any more. Whoever knows the password may " +
			"sign in again: to keep somebody out, disable the account.",
		Errors: []problem.Code{problem.NotFound},
	}, h.revokeUserSessions)
}

func (h handlers) listUsers(ctx context.Context, in *usersQuery) (*list[Person], error) {
	p, err := page(in.Paging, Span{})
	if err != nil {
		return nil, err
	}
	rows, err := h.Store.ListUsers(ctx, tenantOf(ctx), store.UserCursor{Email: p.After.ID}, p.Limit+1)
	if err != nil {
		return nil, err
	}
	more := len(rows) > p.Limit
	return listOf(rows[:min(len(rows), p.Limit)], more, personOf, func(u store.User) store.Position {
		return store.Position{At: time.UnixMicro(0), ID: u.Email} // the email alone is the order
	}), nil
}

func (h handlers) inviteUser(ctx context.Context, in *inviteIn) (*personOut, error) {
	user, err := h.Inviter.Invite(ctx, api.TenantOf(ctx), in.Body.Email, in.Body.Role)
	if err != nil {
		return nil, err
	}
	return &personOut{personOf(user)}, nil
}

func (h handlers) changeUser(ctx context.Context, in *changeIn) (*personOut, error) {
	if in.Body.Role == nil && in.Body.Disabled == nil {
		return nil, invalid("/role", "role or disabled must be given")
	}
	var u store.User
	var err error
	tenant := tenantOf(ctx)
	by := originOf(ctx)
	if in.Body.Role != nil {
		u, err = h.Store.SetUserRole(ctx, tenant, store.RoleChange{
			UserID:    in.ID,
			Role:      *in.Body.Role,
			KeepAdmin: true,
		}, by)
	}
	if err == nil && in.Body.Disabled != nil {
		u, err = h.Store.SetUserDisabled(ctx, tenant, store.AccessChange{
			UserID:    in.ID,
			Disabled:  *in.Body.Disabled,
			KeepAdmin: true,
		}, by)
	}
	if errors.Is(err, store.ErrLastAdmin) {
		return nil, problem.New(problem.Conflict,
			"this is the last admin of the tenant who can sign in; make another user an admin first")
	}
	if err != nil {
		return nil, found("user", err)
	}
	if h.Revoker != nil && u.Disabled() {
		h.Revoker.Revoke(tenant, in.ID, "")
	}
	return &personOut{personOf(u)}, nil
}

func (h handlers) revokeUserSessions(ctx context.Context, in *uuidPath) (*revokedOut, error) {
	tenant := tenantOf(ctx)
	n, err := h.Store.RevokeUser(ctx, tenant, in.ID, nil, originOf(ctx))
	if err != nil {
		return nil, found("user", err)
	}
	if h.Revoker != nil {
		h.Revoker.Revoke(tenant, in.ID, "")
	}
	out := &revokedOut{}
	out.Body.Ended = n
	return out, nil
}

// originOf is who asks, and from where.
func originOf(ctx context.Context) store.Origin {
	principal := api.PrincipalOf(ctx)
	return store.Origin{
		ActorID:   principal.UserID,
		SessionID: principal.SessionID,
		Address:   api.ClientOf(ctx),
		Device:    api.DeviceOf(ctx),
		RequestID: api.RequestID(ctx),
	}
}

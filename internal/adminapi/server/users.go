package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/mailaddress"
	"github.com/caly-dev/caly/internal/store"
)

// listUsers lists the accounts of the tenants, of each by their emails.
func listUsers(r *Request) (any, error) {
	return walk(r, func(ctx context.Context, tenant, after string, limit int) (part page[adminapi.User], err error) {
		list, err := r.server.Store.ListUsers(ctx, tenant, store.UserCursor{Email: after}, limit+1)
		part.more = len(list) > limit
		for _, found := range list[:min(len(list), limit)] {
			part.items = append(part.items, userOf(tenant, found))
			part.after = found.Email
		}
		return part, err
	})
}

// userOf returns an account as it is on the wire.
func userOf(tenant string, u store.User) adminapi.User {
	return adminapi.User{
		Tenant:    tenant,
		ID:        u.ID,
		Email:     u.Email,
		Role:      u.Role,
		State:     u.State(),
		CreatedAt: u.CreatedAt.UTC(),
	}
}

// createUser makes an account and a token that sets its password. The token is in the answer alone.
func createUser(r *Request) (any, error) {
	var body adminapi.NewUser
	if err := r.Read(&body); err != nil {
		return nil, err
	}
	tenant, email, err := r.account(body.Tenant, body.Email)
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{store.RoleAdmin, store.RoleAgent, store.RoleViewer}, body.Role) {
		return nil, apierrors.NewBadRequest(
			fmt.Sprintf("role: %.20q is not one of admin, agent and viewer", body.Role))
	}
	token, stored := store.NewResetToken(store.HandedTokenLifetime)
	expires := time.Now().Add(store.HandedTokenLifetime).UTC().Truncate(time.Second)
	user := store.NewUser{ID: store.NewID(), Email: email, Role: body.Role}
	r.About("%s: created the account %s, role %s", tenant, user.ID, body.Role)
	err = r.server.Store.Invite(r.Context(), tenant, store.Invitation{User: user, Token: stored}, r.Origin())
	if errors.Is(err, store.ErrEmailTaken) {
		return nil, apierrors.NewAlreadyExists(users, email)
	}
	if err != nil {
		return nil, err
	}
	return adminapi.CreatedUser{
		User: adminapi.User{
			Tenant:    tenant,
			ID:        user.ID,
			Email:     email,
			Role:      user.Role,
			State:     store.UserInvited,
			CreatedAt: time.Now().UTC().Truncate(time.Second),
		},
		ResetToken: token,
		ExpiresAt:  expires,
	}, nil
}

// users is the resource of accounts.
var users = schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: adminapi.ResourceUsers}

// account returns the id of a Tenant and a normalized email.
func (r *Request) account(tenantName, text string) (tenant, email string, err error) {
	if email, err = mailaddress.Normalize(text); err != nil {
		return "", "", apierrors.NewBadRequest("email: it " + err.Error())
	}
	tenant, err = r.Tenant(tenantName)
	return tenant, email, err
}

// changeUser disables, enables or signs out an account.
func changeUser(r *Request) (any, error) {
	var body adminapi.UserChange
	if err := r.Read(&body); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{adminapi.ChangeDisable, adminapi.ChangeEnable, adminapi.ChangeRevoke}, body.Change) {
		return nil, apierrors.NewBadRequest(
			fmt.Sprintf("change: %.20q is not one of disable, enable and revoke", body.Change))
	}
	tenant, email, err := r.account(body.Tenant, body.Email)
	if err != nil {
		return nil, err
	}
	found, err := r.server.Store.UserByEmail(r.Context(), tenant, email)
	if errors.Is(err, store.ErrNotFound) {
		return nil, apierrors.NewNotFound(users, email)
	}
	if err != nil {
		return nil, err
	}
	r.About("%s: %s the account %s", tenant, body.Change, found.ID)
	done := adminapi.ChangedUser{}
	if body.Change == adminapi.ChangeRevoke {
		done.Sessions, err = r.server.Store.RevokeUser(r.Context(), tenant, found.ID, nil, r.Origin())
	} else {
		found, err = r.server.Store.SetUserDisabled(r.Context(), tenant, store.AccessChange{
			UserID:   found.ID,
			Disabled: body.Change == adminapi.ChangeDisable,
		}, r.Origin())
	}
	done.User = userOf(tenant, found)
	return done, err
}

package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// RoleChange is a new role of a user.
type RoleChange struct {
	UserID, Role string
	// KeepAdmin rejects a change that would leave the tenant without an admin.
	KeepAdmin bool
}

// SetUserRole gives a user another role. Access tokens with the old one are no longer valid. ErrLastAdmin when
// KeepAdmin rejects the change. ErrNotFound when there is no such user.
func (d *Dataplane) SetUserRole(ctx context.Context, tenant string, c RoleChange, by Origin) (u User, err error) {
	id := c.UserID
	role := c.Role
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		if u, err = lockForAdmin(ctx, tx, tenant, id, c.KeepAdmin && role != RoleAdmin); err != nil || u.Role == role {
			return err
		}
		if _, err := tx.Exec(
			ctx, `UPDATE users SET role = $3, updated_at = now() WHERE tenant = $1 AND id = $2`, tenant, id, role,
		); err != nil {
			return err
		}
		if err := insertRevocation(ctx, tx, tenant, id, ""); err != nil {
			return err
		}
		audit := by.success(actionUserRoleChanged, u.Email)
		audit.Reason = "from " + u.Role + " to " + role
		u.Role = role
		return insertAudit(ctx, tx, tenant, audit)
	})
	return u, err
}

// AccessChange disables a user or enables the user again.
type AccessChange struct {
	UserID   string
	Disabled bool
	// KeepAdmin rejects a change that would leave the tenant without an admin.
	KeepAdmin bool
}

// SetUserDisabled disables a user, ends the sessions and revokes the access, or enables the user again. ErrLastAdmin
// when KeepAdmin rejects the change. ErrNotFound when there is no such user.
func (d *common) SetUserDisabled(ctx context.Context, tenant string, c AccessChange, by Origin) (u User, err error) {
	id := c.UserID
	disabled := c.Disabled
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		if u, err = lockForAdmin(ctx, tx, tenant, id, c.KeepAdmin && disabled); err != nil || u.Disabled() == disabled {
			return err
		}
		var at *time.Time
		err := tx.QueryRow(ctx, `UPDATE users SET disabled_at = CASE WHEN $3 THEN now() END, updated_at = now()
			WHERE tenant = $1 AND id = $2 RETURNING disabled_at`, tenant, id, disabled).Scan(&at)
		if err != nil {
			return err
		}
		u.DisabledAt = orZero(at)
		if !disabled {
			return insertAudit(ctx, tx, tenant, by.success(actionUserEnabled, u.Email))
		}
		if _, err := endUser(ctx, tx, tenant, id, endDisabled); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(ActionUserDisabled, u.Email))
	})
	return u, err
}

// RevokeUser ends all of a user's sessions and access. It returns how many sessions. ErrNotFound when there is no such user.
func (d *common) RevokeUser(ctx context.Context, tenant, id string, mail MailFor, by Origin) (n int, err error) {
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		user, err := lockUser(ctx, tx, tenant, id)
		if err != nil {
			return err
		}
		if n, err = endUser(ctx, tx, tenant, id, EndRevoked); err != nil {
			return err
		}
		if err := send(ctx, tx, tenant, user, mail); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(ActionSessionsRevoked, user.Email))
	})
	return n, err
}

// endUser ends the sessions of a user, and revokes the access tokens that the user already has.
func endUser(ctx context.Context, tx pgx.Tx, tenant, id, reason string) (int, error) {
	ended, err := endSessions(ctx, tx, tenant, sessionsOf{UserID: id}, reason)
	if err != nil {
		return 0, err
	}
	return len(ended), insertRevocation(ctx, tx, tenant, id, "")
}

// lockForAdmin is lockUser that, where an admin must remain, first locks all who could: two admins who end each other at the same
// moment come one after another, and the second finds itself the last.
func lockForAdmin(ctx context.Context, tx pgx.Tx, tenant, id string, keepAdmin bool) (User, error) {
	if !keepAdmin {
		return lockUser(ctx, tx, tenant, id)
	}
	rows, err := tx.Query(ctx, `SELECT id::text FROM users WHERE tenant = $1 AND role = 'admin' AND disabled_at IS NULL
		AND email_verified_at IS NOT NULL ORDER BY id FOR NO KEY UPDATE`, tenant)
	if err != nil {
		return User{}, err
	}
	admins, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return User{}, err
	}
	if len(admins) == 1 && admins[0] == id {
		return User{}, ErrLastAdmin
	}
	return lockUser(ctx, tx, tenant, id)
}

package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// ResetRequest is a request of a person for a token that sets the password. One of the two messages is sent.
type ResetRequest struct {
	Email string
	Token ResetToken
	// Mail carries the token. Other is sent when no user of that email may sign in.
	Mail, Other *OutboxMail
}

// RequestReset makes a token that sets the password of the email's user, and sends mail with it. When no such user may sign in, no token is
// made, and the mail is other.
func (d *Dataplane) RequestReset(ctx context.Context, tenant string, r ResetRequest, by Origin) error {
	return d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		known, err := insertResetToken(ctx, tx, tenant, r.Email, r.Token)
		if err != nil {
			return err
		}
		if err := addAskedMail(ctx, tx, tenant, choose(known, r.Mail, r.Other)); err != nil {
			return err
		}
		audit := by.success(actionPasswordResetRequested, r.Email)
		if !known {
			audit = by.failure(actionPasswordResetRequested, r.Email, "no such account")
		}
		return insertAudit(ctx, tx, tenant, audit)
	})
}

// insertResetToken tells whether the email has a user who may have one. Of a user's tokens the newest few stay.
func insertResetToken(ctx context.Context, tx pgx.Tx, tenant, email string, t ResetToken) (bool, error) {
	tag, err := tx.Exec(ctx, `INSERT INTO password_reset_tokens (tenant, token_hash, user_id, expires_at)
		SELECT tenant, $3, id, now() + $4::interval FROM users WHERE tenant = $1 AND email = $2
			AND disabled_at IS NULL`, tenant, email, t.Hash, t.Lifetime)
	if err != nil {
		return false, err
	}
	_, err = tx.Exec(
		ctx,
		`DELETE FROM password_reset_tokens t USING users u WHERE u.tenant = $1 AND u.email = $2 AND t.tenant = $1 AND t.user_id = u.id
		AND t.token_hash NOT IN (SELECT token_hash FROM password_reset_tokens n WHERE n.tenant = $1 AND n.user_id = u.id
			ORDER BY n.created_at DESC LIMIT $3)`,
		tenant,
		email,
		maxResetTokens,
	)
	return tag.RowsAffected() == 1, err
}

// ResetTokenOwner returns whose password a reset token sets. ErrNotFound when it sets none: unknown, used, expired, or of a disabled user.
func (d *Dataplane) ResetTokenOwner(ctx context.Context, tenant string, hash []byte) (u User, err error) {
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(
			`SELECT `+userColumns+` FROM password_reset_tokens t JOIN users u ON u.tenant = t.tenant AND u.id = t.user_id
			WHERE t.tenant = $1 AND t.token_hash = $2 AND `+usable,
			tenant,
			hash,
		).QueryRow(func(row pgx.Row) (err error) {
			u, err = scanUser(row)
			return err
		})
	})
	return u, err
}

const usable = `t.used_at IS NULL AND t.expires_at > now() AND u.disabled_at IS NULL`

// PasswordReset sets a password by a reset token.
type PasswordReset struct {
	TokenHash []byte
	// NewHash is the hash of the new password.
	NewHash string
	// Mail notifies the user.
	Mail MailFor
}

// ResetPassword uses a reset token up: the password is set, the email verified, every session ended. It returns the user and the sessions
// that ended. ErrNotFound when the token sets none, or sets one at this moment in another request.
func (d *Dataplane) ResetPassword(
	ctx context.Context, tenant string, r PasswordReset, by Origin,
) (u User, ended []string, err error) {
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		u, err = scanUser(
			tx.QueryRow(
				ctx,
				`SELECT `+userColumns+` FROM password_reset_tokens t JOIN users u ON u.tenant = t.tenant AND u.id = t.user_id
			WHERE t.tenant = $1 AND t.token_hash = $2 AND `+usable+` FOR NO KEY UPDATE OF u FOR UPDATE OF t`,
				tenant,
				r.TokenHash,
			),
		)
		if err != nil {
			return err
		}
		by.ActorID = u.ID
		if err := useUp(ctx, tx, tenant, u.ID, r.TokenHash); err != nil {
			return err
		}
		if err := verified(ctx, tx, tenant, u.ID); err != nil {
			return err
		}
		set := passwordSet{hash: r.NewHash, end: sessionsOf{UserID: u.ID}, reason: endPasswordReset, mail: r.Mail}
		if ended, err = set.apply(ctx, tx, tenant, u); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(actionPasswordReset, u.Email))
	})
	return u, ended, err
}

// useUp marks the token as used. Whoever else holds one for the user has lost it: the password was just set.
func useUp(ctx context.Context, tx pgx.Tx, tenant, userID string, hash []byte) error {
	_, err := tx.Exec(
		ctx, `UPDATE password_reset_tokens SET used_at = now() WHERE tenant = $1 AND token_hash = $2`, tenant, hash,
	)
	if err != nil {
		return err
	}
	return dropResetTokens(ctx, tx, tenant, userID)
}

// dropResetTokens deletes a user's unused tokens, so that older mails no longer set a password.
func dropResetTokens(ctx context.Context, tx pgx.Tx, tenant, userID string) error {
	_, err := tx.Exec(
		ctx, `DELETE FROM password_reset_tokens WHERE tenant = $1 AND user_id = $2 AND used_at IS NULL`, tenant, userID,
	)
	return err
}

// PasswordChange replaces the password of a user.
type PasswordChange struct {
	UserID string
	// SeenHash is the hash that the current password was checked against. NewHash takes its place.
	SeenHash, NewHash string
	// Mail notifies the user.
	Mail MailFor
}

// ChangePassword sets a password in place of the one that was checked, ends the user's other sessions, and returns
// those. ErrNotFound when the user may not sign in or has got another password since.
func (d *Dataplane) ChangePassword(
	ctx context.Context, tenant string, c PasswordChange, by Origin,
) (ended []string, err error) {
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		user, err := scanUser(
			tx.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE tenant = $1 AND id = $2 AND password_hash = $3
			AND disabled_at IS NULL FOR NO KEY UPDATE`, tenant, c.UserID, c.SeenHash),
		)
		if err != nil {
			return err
		}
		if err := dropResetTokens(ctx, tx, tenant, c.UserID); err != nil {
			return err
		}
		others := sessionsOf{UserID: c.UserID, Except: by.SessionID}
		set := passwordSet{hash: c.NewHash, end: others, reason: endPasswordChanged, mail: c.Mail}
		if ended, err = set.apply(ctx, tx, tenant, user); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(ActionPasswordChanged, user.Email))
	})
	return ended, err
}

// passwordSet is a new password of a user, with the sessions that end and the reason.
type passwordSet struct {
	hash   string
	end    sessionsOf
	reason string
	mail   MailFor
}

// apply writes the hash, ends the sessions and notifies the user. It returns the sessions that ended.
func (p passwordSet) apply(ctx context.Context, tx pgx.Tx, tenant string, u User) ([]string, error) {
	if err := setHash(ctx, tx, tenant, u.ID, p.hash); err != nil {
		return nil, err
	}
	ended, err := endSessions(ctx, tx, tenant, p.end, p.reason)
	if err != nil {
		return nil, err
	}
	return ended, send(ctx, tx, tenant, u, p.mail)
}

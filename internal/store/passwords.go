package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// RequestReset makes a token that sets the password of the email's user, and sends mail with it. When no such user may sign in, no token is
// made, and the mail is other.
func (d *Dataplane) RequestReset(
	ctx context.Context, tenant, email string, token ResetToken, mail, other *OutboxMail, by Origin,
) error {
	return d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		known, err := insertResetToken(ctx, tx, tenant, email, token)
		if err != nil {
			return err
		}
		if err := addAskedMail(ctx, tx, tenant, choose(known, mail, other)); err != nil {
			return err
		}
		a := by.success(ActionPasswordResetRequested, email)
		if !known {
			a = by.failure(ActionPasswordResetRequested, email, "no such account")
		}
		return insertAudit(ctx, tx, tenant, a)
	})
}

// insertResetToken tells whether the email has a user who may have one. Of a user's tokens the newest few stay.
func insertResetToken(ctx context.Context, tx pgx.Tx, tenant, email string, t ResetToken) (bool, error) {
	tag, err := tx.Exec(ctx, `INSERT INTO password_reset_tokens (tenant, token_hash, user_id, expires_at)
		SELECT tenant, $3, id, now() + $4::interval FROM users WHERE tenant = $1 AND email = $2 AND disabled_at IS NULL`, tenant, email, t.Hash, t.Lifetime)
	if err != nil {
		return false, err
	}
	_, err = tx.Exec(ctx, `DELETE FROM password_reset_tokens t USING users u WHERE u.tenant = $1 AND u.email = $2 AND t.tenant = $1 AND t.user_id = u.id
		AND t.token_hash NOT IN (SELECT token_hash FROM password_reset_tokens n WHERE n.tenant = $1 AND n.user_id = u.id
			ORDER BY n.created_at DESC LIMIT $3)`, tenant, email, maxResetTokens)
	return tag.RowsAffected() == 1, err
}

// ResetTokenOwner returns whose password a reset token sets. ErrNotFound when it sets none: unknown, used, expired, or of a disabled user.
func (d *Dataplane) ResetTokenOwner(ctx context.Context, tenant string, hash []byte) (u User, err error) {
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(`SELECT `+userColumns+` FROM password_reset_tokens t JOIN users u ON u.tenant = t.tenant AND u.id = t.user_id
			WHERE t.tenant = $1 AND t.token_hash = $2 AND `+usable, tenant, hash).QueryRow(func(row pgx.Row) (err error) {
			u, err = scanUser(row)
			return err
		})
	})
	return u, err
}

const usable = `t.used_at IS NULL AND t.expires_at > now() AND u.disabled_at IS NULL`

// ResetPassword uses a reset token up: the password is set, the email verified, every session ended. It returns the user and the sessions
// that ended. ErrNotFound when the token sets none, or sets one at this moment in another request.
func (d *Dataplane) ResetPassword(
	ctx context.Context, tenant string, hash []byte, newHash string, mail MailFor, by Origin,
) (u User, ended []string, err error) {
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		u, err = scanUser(tx.QueryRow(ctx, `SELECT `+userColumns+` FROM password_reset_tokens t JOIN users u ON u.tenant = t.tenant AND u.id = t.user_id
			WHERE t.tenant = $1 AND t.token_hash = $2 AND `+usable+` FOR NO KEY UPDATE OF u FOR UPDATE OF t`, tenant, hash))
		if err != nil {
			return err
		}
		by.ActorID = u.ID
		if err := useUp(ctx, tx, tenant, u.ID, hash); err != nil {
			return err
		}
		if err := verified(ctx, tx, tenant, u.ID); err != nil {
			return err
		}
		ended, err = setPassword(ctx, tx, tenant, u, newHash, sessionsOf{UserID: u.ID}, EndPasswordReset, mail)
		if err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(ActionPasswordReset, u.Email))
	})
	return u, ended, err
}

// useUp marks the token as used. Whoever else holds one for the user has lost it: the password was just set.
func useUp(ctx context.Context, tx pgx.Tx, tenant, userID string, hash []byte) error {
	_, err := tx.Exec(ctx, `UPDATE password_reset_tokens SET used_at = now() WHERE tenant = $1 AND token_hash = $2`, tenant, hash)
	if err != nil {
		return err
	}
	return dropResetTokens(ctx, tx, tenant, userID)
}

func dropResetTokens(ctx context.Context, tx pgx.Tx, tenant, userID string) error {
	_, err := tx.Exec(ctx, `DELETE FROM password_reset_tokens WHERE tenant = $1 AND user_id = $2 AND used_at IS NULL`, tenant, userID)
	return err
}

// ChangePassword sets a password in place of the one that seenHash is of, ends the user's other sessions, and returns those. ErrNotFound
// when the user may not sign in or has got another password since.
func (d *Dataplane) ChangePassword(
	ctx context.Context, tenant, userID, seenHash, newHash string, mail MailFor, by Origin,
) (ended []string, err error) {
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		u, err := scanUser(tx.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE tenant = $1 AND id = $2 AND password_hash = $3
			AND disabled_at IS NULL FOR NO KEY UPDATE`, tenant, userID, seenHash))
		if err != nil {
			return err
		}
		if err := dropResetTokens(ctx, tx, tenant, userID); err != nil {
			return err
		}
		others := sessionsOf{UserID: userID, Except: by.SessionID}
		if ended, err = setPassword(ctx, tx, tenant, u, newHash, others, EndPasswordChanged, mail); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(ActionPasswordChanged, u.Email))
	})
	return ended, err
}

// setPassword writes the hash, ends the sessions, and tells the user.
func setPassword(
	ctx context.Context, tx pgx.Tx, tenant string, u User, hash string, end sessionsOf, reason string, mail MailFor,
) ([]string, error) {
	if err := setHash(ctx, tx, tenant, u.ID, hash); err != nil {
		return nil, err
	}
	ended, err := endSessions(ctx, tx, tenant, end, reason)
	if err != nil {
		return nil, err
	}
	return ended, send(ctx, tx, tenant, u, mail)
}

package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// MaxCodeTries is how many wrong codes an email code bears. After that a new one is needed.
const MaxCodeTries = 5

// maxResetTokens is how many reset tokens of a user are good at a time: asking again does not spoil the mail that is under way.
const maxResetTokens = 3

// EmailCode verifies an email.
type EmailCode struct {
	// Hash has 32 bytes, under a key that this database does not hold.
	Hash     []byte
	Lifetime time.Duration
}

// ResetToken sets a password, once.
type ResetToken struct {
	// Hash is the SHA-256 of the token.
	Hash     []byte
	Lifetime time.Duration
}

// resetTokenSize is the length of a reset token in bytes.
const resetTokenSize = 32

// HandedTokenLifetime is how long a reset token that the platform hands over sets a password.
const HandedTokenLifetime = 7 * 24 * time.Hour

// NewResetToken returns a token that sets a password, and what is stored of it.
func NewResetToken(lifetime time.Duration) (string, ResetToken) {
	b := make([]byte, resetTokenSize)
	_, _ = rand.Read(b) // never fails
	token := base64.RawURLEncoding.EncodeToString(b)
	sum := sha256.Sum256([]byte(token))
	return token, ResetToken{Hash: sum[:], Lifetime: lifetime}
}

// Registration is a request for an account. Of the mail one is sent: Verify with the code, or, when the email has an account already,
// Exists. An account whose email was never verified is nobody's yet: it gets the new password.
type Registration struct {
	User           NewUser
	Code           EmailCode
	Verify, Exists *OutboxMail
}

// Register makes an account that waits for its email's code. Whether there was one does not show.
func (d *Dataplane) Register(ctx context.Context, tenant string, r Registration, by Origin) error {
	return d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		var id string
		err := tx.QueryRow(
			ctx,
			`INSERT INTO users AS u (tenant, id, email, password_hash, role) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (tenant, email) DO UPDATE
				SET password_hash = excluded.password_hash, contested = true, updated_at = now()
				WHERE u.email_verified_at IS NULL AND u.disabled_at IS NULL AND u.password_hash <> ''
			RETURNING id::text`,
			tenant, r.User.ID, r.User.Email, r.User.PasswordHash, r.User.Role,
		).Scan(&id)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		fresh := err == nil
		known, err := setCode(ctx, tx, tenant, r.User.Email, r.Code)
		if err != nil {
			return err
		}
		if err := addAskedMail(ctx, tx, tenant, choose(fresh && known, r.Verify, r.Exists)); err != nil {
			return err
		}
		audit := by.success(ActionRegister, r.User.Email)
		if !fresh {
			audit = by.failure(ActionRegister, r.User.Email, "the email has an account")
		}
		return insertAudit(ctx, tx, tenant, audit)
	})
}

// CodeRequest is a request of a person for another code. One of the two messages is sent.
type CodeRequest struct {
	Email string
	Code  EmailCode
	// Mail carries the code. Other is sent when the email does not wait for one.
	Mail, Other *OutboxMail
}

// Resend replaces the code of an email that waits for one. Otherwise none is made, and the mail is other.
func (d *Dataplane) Resend(ctx context.Context, tenant string, r CodeRequest) error {
	return d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		waits, err := setCode(ctx, tx, tenant, r.Email, r.Code)
		if err != nil {
			return err
		}
		return addAskedMail(ctx, tx, tenant, choose(waits, r.Mail, r.Other))
	})
}

// setCode gives a user who waits for one a new code, in place of any other, and tells whether there is such a user.
func setCode(ctx context.Context, tx pgx.Tx, tenant, email string, c EmailCode) (bool, error) {
	tag, err := tx.Exec(ctx, `INSERT INTO email_codes (tenant, user_id, code_hash, expires_at)
		SELECT tenant, id, $3, now() + $4::interval FROM users
			WHERE tenant = $1 AND email = $2 AND email_verified_at IS NULL AND disabled_at IS NULL
				AND password_hash <> ''
		ON CONFLICT (tenant, user_id) DO UPDATE
			SET code_hash = excluded.code_hash, expires_at = excluded.expires_at, attempts = 0, created_at = now()`,
		tenant, email, c.Hash, c.Lifetime)
	return tag.RowsAffected() == 1, err
}

// choose returns a if first is true, and b otherwise.
func choose(first bool, a, b *OutboxMail) *OutboxMail {
	if first {
		return a
	}
	return b
}

// Verification is a code that came for an email.
type Verification struct {
	Email string
	// Hash is the hash of the code.
	Hash []byte
	// Confirmed is the stored hash of the password that came with the code, empty where none came. It is needed for an
	// email that was registered more than once: the last registration may be another person's.
	Confirmed string
}

// VerifyEmail takes an email's code. It reports true, once, for the code that the user waits for, unless it expired or
// was guessed at too often.
func (d *Dataplane) VerifyEmail(ctx context.Context, tenant string, v Verification, by Origin) (good bool, err error) {
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		id, reason, err := judgeCode(ctx, tx, tenant, v)
		if err != nil {
			return err
		}
		if good = reason == ""; !good {
			_, err := tx.Exec(
				ctx,
				`UPDATE email_codes SET attempts = attempts + 1 WHERE tenant = $1 AND user_id = $2`,
				tenant,
				orNull(id),
			)
			if err != nil {
				return err
			}
			return insertAudit(ctx, tx, tenant, by.failure(ActionVerifyEmail, v.Email, reason))
		}
		if err := verified(ctx, tx, tenant, id); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(ActionVerifyEmail, v.Email))
	})
	return good && err == nil, err
}

// judgeCode returns whom the email belongs to and why the code is refused, empty when it is not. The code stays locked, so that tries count
// one by one.
func judgeCode(ctx context.Context, tx pgx.Tx, tenant string, v Verification) (id, reason string, err error) {
	var want []byte
	var tries int
	var live, owner bool
	err = tx.QueryRow(
		ctx,
		`SELECT u.id::text, c.code_hash, c.attempts, c.expires_at > now(), u.password_hash = $3 OR ($3 = '' AND NOT u.contested)
		FROM users u JOIN email_codes c ON c.tenant = u.tenant AND c.user_id = u.id
		WHERE u.tenant = $1 AND u.email = $2 AND u.disabled_at IS NULL FOR UPDATE OF c`,
		tenant,
		v.Email,
		v.Confirmed,
	).Scan(&id, &want, &tries, &live, &owner)
	switch right := subtle.ConstantTimeCompare(want, v.Hash) == 1; {
	case errors.Is(err, pgx.ErrNoRows):
		return "", "no code is waited for", nil
	case err != nil:
		return "", "", err
	case tries >= MaxCodeTries:
		return id, "too many tries", nil
	case !live:
		return id, "expired", nil
	case !right:
		return id, "wrong code", nil
	case !owner:
		return id, "not the password that was registered last", nil
	}
	return id, "", nil
}

// verified marks a user's email as the user's own; no code is needed any more.
func verified(ctx context.Context, tx pgx.Tx, tenant, id string) error {
	_, err := tx.Exec(
		ctx,
		`UPDATE users SET email_verified_at = coalesce(email_verified_at, now()), contested = false, updated_at = `+
			`now() WHERE tenant = $1 AND id = $2`,
		tenant, id,
	)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM email_codes WHERE tenant = $1 AND user_id = $2`, tenant, id)
	return err
}

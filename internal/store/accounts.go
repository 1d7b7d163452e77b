package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// refusal is an error of this package's that ends a transaction on purpose.
type refusal string

// Error says what is refused.
func (r refusal) Error() string { return string(r) }

// Errors of accounts that callers decide by.
const (
	// ErrEmailTaken means that the tenant has an account with that email.
	ErrEmailTaken refusal = "an account with this email exists"
	// ErrMailFull is returned when too much of the tenant's mail waits to be sent.
	ErrMailFull refusal = "too much mail of this tenant waits to be sent"
	// ErrLastAdmin means that the change would leave the tenant without an admin that can sign in.
	ErrLastAdmin refusal = "it is the tenant's last admin who can sign in"
)

// Roles of a tenant's people.
const (
	RoleAdmin  = "admin"
	RoleAgent  = "agent"
	RoleViewer = "viewer"
)

// User is an account, without its password.
type User struct {
	ID, Email, Role string
	// VerifiedAt and DisabledAt are zero until that happens.
	VerifiedAt, DisabledAt time.Time
	// Invited reports whether the user has not set a password yet.
	Invited              bool
	CreatedAt, UpdatedAt time.Time
}

// Verified tells whether the email is known to be the user's.
func (u *User) Verified() bool { return !u.VerifiedAt.IsZero() }

// Disabled tells whether the user may not sign in.
func (u *User) Disabled() bool { return !u.DisabledAt.IsZero() }

// States of an account, as a person thinks of them.
const (
	userActive     = "active"
	userDisabled   = "disabled"
	UserInvited    = "invited"
	userUnverified = "unverified"
)

// State returns one of the states.
func (u *User) State() string {
	switch {
	case u.Disabled():
		return userDisabled
	case u.Invited:
		return UserInvited
	case !u.Verified():
		return userUnverified
	}
	return userActive
}

// NewUser is an account to be.
type NewUser struct {
	// ID is NewID's.
	ID string
	// Email is normalized.
	Email string
	// PasswordHash in PHC form; empty for an invitation.
	PasswordHash string
	Role         string
	// Verified reports whether the email needs no code.
	Verified bool
}

// MailFor makes the mail of a change once it is known whom it is about. It runs inside of the transaction, so it must not wait for
// anything. A nil MailFor, or nil mail, sends none.
type MailFor func(User) (*OutboxMail, error)

// NewID returns a random UUID (version 4).
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ValidID reports whether s is a UUID as PostgreSQL writes it. Other text names no row.
func ValidID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		digit := s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'f'
		if dash != (s[i] == '-') || !dash && !digit {
			return false
		}
	}
	return true
}

const userColumns = `u.id::text, u.email, u.role, u.email_verified_at, u.disabled_at, u.password_hash = '', u.created_at, u.updated_at`

// scanUser reads userColumns and what follows them.
func scanUser(row pgx.Row, more ...any) (u User, err error) {
	var verified, disabled *time.Time
	err = row.Scan(
		append(
			[]any{&u.ID, &u.Email, &u.Role, &verified, &disabled, &u.Invited, &u.CreatedAt, &u.UpdatedAt},
			more...)...)
	u.VerifiedAt = orZero(verified)
	u.DisabledAt = orZero(disabled)
	return u, err
}

// orZero returns the time, or the zero time for NULL.
func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// UserByID returns a user. ErrNotFound when the tenant has none of that id.
func (d *Dataplane) UserByID(ctx context.Context, tenant, id string) (u User, err error) {
	if !ValidID(id) {
		return u, ErrNotFound
	}
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(
			`SELECT `+userColumns+` FROM users u WHERE tenant = $1 AND id = $2`, tenant, id,
		).QueryRow(func(row pgx.Row) (err error) {
			u, err = scanUser(row)
			return err
		})
	})
	return u, err
}

// UserByEmail returns the user of a normalized email. ErrNotFound when the tenant has none.
func (d *Operator) UserByEmail(ctx context.Context, tenant, email string) (User, error) {
	credentials, err := d.credentials(ctx, tenant, `u.email = $2`, email)
	return credentials.User, err
}

// Credentials are what a password is checked against.
type Credentials struct {
	User User
	// PasswordHash in PHC form; empty matches no password.
	PasswordHash string
}

// Credentials returns what the user of a normalized email signs in with. ErrNotFound when the tenant has none.
func (d *Dataplane) Credentials(ctx context.Context, tenant, email string) (c Credentials, err error) {
	return d.credentials(ctx, tenant, `u.email = $2`, email)
}

// CredentialsByID is Credentials for a user's id.
func (d *Dataplane) CredentialsByID(ctx context.Context, tenant, id string) (c Credentials, err error) {
	if !ValidID(id) {
		return c, ErrNotFound
	}
	return d.credentials(ctx, tenant, `u.id = $2`, id)
}

// credentials returns the user that the condition selects, with the hash of the password.
func (d *common) credentials(ctx context.Context, tenant, where string, arg any) (c Credentials, err error) {
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(
			`SELECT `+userColumns+`, u.password_hash FROM users u WHERE tenant = $1 AND `+where, tenant, arg,
		).QueryRow(func(row pgx.Row) (err error) {
			c.User, err = scanUser(row, &c.PasswordHash)
			return err
		})
	})
	return c, err
}

// UserCursor is the place after which a page of users begins: the zero one begins at the start.
type UserCursor struct {
	Email string
}

// ListUsers returns a page of a tenant's users in the order of their emails.
func (d *common) ListUsers(ctx context.Context, tenant string, after UserCursor, limit int) (list []User, err error) {
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(
			`SELECT `+userColumns+` FROM users u WHERE tenant = $1 AND email > $2 ORDER BY email LIMIT $3`,
			tenant,
			after.Email,
			limit,
		).
			Query(func(rows pgx.Rows) (err error) {
				list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (User, error) { return scanUser(row) })
				return err
			})
	})
	return list, err
}

// CreateUser makes an account with a password that somebody in charge chose. ErrEmailTaken when there is one.
func (d *Operator) CreateUser(ctx context.Context, tenant string, u NewUser, by Origin) error {
	return d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		if err := insertUser(ctx, tx, tenant, u); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(actionUserCreated, u.Email))
	})
}

// Invitation is an account without a password, and a token that sets one.
type Invitation struct {
	User  NewUser
	Token ResetToken
	// Mail carries the token; nil sends none.
	Mail *OutboxMail
}

// Invite makes the account and the token of an invitation. ErrEmailTaken when there is an account.
func (d *common) Invite(ctx context.Context, tenant string, i Invitation, by Origin) error {
	newUser := i.User
	newUser.PasswordHash = ""
	newUser.Verified = false
	return d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		if err := insertUser(ctx, tx, tenant, newUser); err != nil {
			return err
		}
		if _, err := insertResetToken(ctx, tx, tenant, newUser.Email, i.Token); err != nil {
			return err
		}
		if err := addMail(ctx, tx, tenant, i.Mail); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(actionUserInvited, newUser.Email))
	})
}

// insertUser adds an account. ErrEmailTaken if the tenant has the email already.
func insertUser(ctx context.Context, tx pgx.Tx, tenant string, u NewUser) error {
	tag, err := tx.Exec(ctx, `INSERT INTO users (tenant, id, email, password_hash, role, email_verified_at)
		VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN now() END) ON CONFLICT (tenant, email) DO NOTHING`,
		tenant, u.ID, u.Email, u.PasswordHash, u.Role, u.Verified)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrEmailTaken
	}
	return err
}

// lockUser reads a user that the transaction is about to change: changes of one user, and of its sessions as a whole, come one
// after another.
func lockUser(ctx context.Context, tx pgx.Tx, tenant, id string) (User, error) {
	if !ValidID(id) {
		return User{}, ErrNotFound
	}
	user, err := scanUser(
		tx.QueryRow(
			ctx, `SELECT `+userColumns+` FROM users u WHERE tenant = $1 AND id = $2 FOR NO KEY UPDATE`, tenant, id,
		),
	)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	return user, err
}

// send puts the mail of a change into the outbox.
func send(ctx context.Context, tx pgx.Tx, tenant string, u User, mail MailFor) error {
	if mail == nil {
		return nil
	}
	outboxMail, err := mail(u)
	if err != nil {
		return refusal("seal mail: " + err.Error())
	}
	if outboxMail == nil {
		return nil
	}
	return addMail(ctx, tx, tenant, outboxMail)
}

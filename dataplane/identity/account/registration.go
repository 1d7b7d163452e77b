package account

import (
	"context"
	"errors"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/mailaddress"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Register makes an account and mails the code that verifies its email. The owner of an existing account gets a mail
// about the attempt instead.
func (s *Service) Register(ctx context.Context, t *tenantconfig.Tenant, email, pw string) error {
	by := originOf(ctx)
	if !t.Auth.OpenRegistration {
		return problem.New(problem.Forbidden, "registration is closed; ask an admin of the tenant for an invitation")
	}
	if err := s.canMail(); err != nil {
		return err
	}
	limits := append(byAddress(ratelimit.API, "", by.Address), byAddress(ratelimit.Register, "", by.Address)...)
	if err := s.blocked(t, limits...); err != nil {
		return err
	}
	email, err := newAccount(t, email, pw)
	if err != nil {
		return err
	}
	if err := s.take(ctx, t, append(limits, limited{ratelimit.RegisterMail, email})...); err != nil {
		return err
	}
	if _, err := s.countOfTenant(ctx, t, ratelimit.TenantRegister, store.ActionRegister); err != nil {
		return err
	}
	defer s.settle(ctx, time.Now())
	ring, err := s.ring()
	if err != nil {
		return err
	}
	hash, err := s.Hasher.Hash(ctx, pw)
	if err != nil {
		return busy(err)
	}
	code := newCode()
	registration := store.Registration{
		User: store.NewUser{ID: store.NewID(), Email: email, PasswordHash: hash, Role: store.RoleViewer},
		Code: store.EmailCode{Hash: codeHash(ring, t.ID, email, code), Lifetime: codeLifetime},
	}
	if registration.Verify, registration.Exists, err = (post{ring, t}).either(
		mail.VerifyEmail, mail.AccountExists, email, codeData(code), codeLifetime,
	); err != nil {
		return err
	}
	return s.posted(s.Store.Register(ctx, t.ID, registration, by))
}

func codeData(code string) mail.Data {
	return mail.Data{Code: secret.Sensitive(code), ValidFor: codeLifetime}
}

// newAccount checks what an account is asked for with. What it refuses tells nothing of other accounts.
func newAccount(t *tenantconfig.Tenant, raw, pw string) (string, error) {
	email, err := mailaddress.Normalize(raw)
	if err != nil {
		return "", invalid("email", err.Error())
	}
	if !domainAllowed(email, t.Auth.AllowedEmailDomains) {
		return "", invalid("email", "must be at a domain that the tenant allows")
	}
	return email, checkPassword("password", pw, email, t)
}

func checkPassword(field, pw, email string, t *tenantconfig.Tenant) error {
	if why := password.Check(pw, email, t.ID); why != "" {
		return invalid(field, why)
	}
	return nil
}

// VerifyEmail takes the code that was mailed, and the password, which is needed where the email was registered more than once. Whatever is
// wrong with them, the answer is one.
func (s *Service) VerifyEmail(ctx context.Context, t *tenantconfig.Tenant, raw, code, pw string) error {
	by := originOf(ctx)
	email, err := mailaddress.Normalize(raw)
	if err != nil {
		return invalid("email", err.Error())
	}
	if err := s.take(ctx, t, byAddress(ratelimit.API, "", by.Address)...); err != nil {
		return err
	}
	tries, err := s.countCode(ctx, t, email)
	if err != nil {
		return err
	}
	defer s.settle(ctx, time.Now())
	ring, err := s.ring()
	if err != nil {
		return err
	}
	confirmed, err := s.confirm(ctx, t, email, pw)
	if err != nil {
		return err
	}
	good, err := s.Store.VerifyEmail(ctx, t.ID, store.Verification{
		Email:     email,
		Hash:      codeHash(ring, t.ID, email, code),
		Confirmed: confirmed,
	}, by)
	switch {
	case err != nil:
		return err
	case !good:
		return invalid(
			"code",
			"is wrong or has expired: ask for a new one, and mind that five wrong ones use a code up; who "+
				"registered more than once "+
				"must send the password that was given last, too",
		)
	}
	s.forgive(ctx, t, tries)
	return nil
}

// countCode counts a try of a code for an email.
func (s *Service) countCode(ctx context.Context, t *tenantconfig.Tenant, email string) ([]counted, error) {
	tries, err := s.count(ctx, t, limited{ratelimit.Verify, email})
	if err != nil {
		return nil, err
	}
	ofTenant, err := s.countOfTenant(ctx, t, ratelimit.TenantVerify, store.ActionVerifyEmail)
	return append(tries, ofTenant...), err
}

// wrongPassword is the stored hash of nobody's password.
const wrongPassword = "wrong"

// confirm returns the stored hash of a password that came with a code, wrongPassword if it is another, and nothing if none came.
func (s *Service) confirm(ctx context.Context, t *tenantconfig.Tenant, email, pw string) (string, error) {
	if pw == "" {
		return "", nil
	}
	credentials, err := s.Store.Credentials(ctx, t.ID, email)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	ok, _, err := s.Hasher.Verify(ctx, pw, credentials.PasswordHash)
	switch {
	case err != nil:
		return "", busy(err)
	case !ok:
		return wrongPassword, nil
	}
	return credentials.PasswordHash, nil
}

// ResendCode mails a new code to an email that waits for one; to others nothing.
func (s *Service) ResendCode(ctx context.Context, t *tenantconfig.Tenant, raw string) error {
	if err := s.canMail(); err != nil {
		return err
	}
	email, err := mailaddress.Normalize(raw)
	if err != nil {
		return invalid("email", err.Error())
	}
	limits := append(byAddress(ratelimit.API, "", originOf(ctx).Address), limited{ratelimit.Resend, email},
		limited{ratelimit.RegisterMail, email})
	if err := s.take(ctx, t, limits...); err != nil {
		return err
	}
	if _, err := s.countOfTenant(ctx, t, ratelimit.TenantRegister, store.ActionRegister); err != nil {
		return err
	}
	defer s.settle(ctx, time.Now())
	ring, err := s.ring()
	if err != nil {
		return err
	}
	code := newCode()
	real, none, err := post{ring, t}.either(mail.VerifyEmail, mail.None, email, codeData(code), codeLifetime)
	if err != nil {
		return err
	}
	return s.posted(s.Store.Resend(ctx, t.ID, store.CodeRequest{
		Email: email,
		Code:  store.EmailCode{Hash: codeHash(ring, t.ID, email, code), Lifetime: codeLifetime},
		Mail:  real,
		Other: none,
	}))
}

// Invite makes an account without a password, for an admin, and mails the token that sets one. The role is one of the
// store's. The email is as it was typed.
func (s *Service) Invite(ctx context.Context, t *tenantconfig.Tenant, raw, role string) (store.User, error) {
	if err := s.canMail(); err != nil {
		return store.User{}, err
	}
	email, err := mailaddress.Normalize(raw)
	if err != nil {
		return store.User{}, invalid("email", err.Error())
	}
	ring, err := s.ring()
	if err != nil {
		return store.User{}, err
	}
	p := post{ring, t}
	token, stored := store.NewResetToken(invitationLifetime)
	outboxMail, err := p.seal(mail.Invitation, email, p.resetData(token, invitationLifetime), invitationLifetime)
	if err != nil {
		return store.User{}, err
	}
	newUser := store.NewUser{ID: store.NewID(), Email: email, Role: role}
	if err := s.posted(s.Store.Invite(ctx, t.ID, store.Invitation{
		User:  newUser,
		Token: stored,
		Mail:  outboxMail,
	}, originOf(ctx))); err != nil {
		return store.User{}, taken(err)
	}
	return s.Store.UserByID(ctx, t.ID, newUser.ID)
}

func taken(err error) error {
	if err == store.ErrEmailTaken { //nolint:errorlint // the store returns it bare
		return problem.New(problem.Conflict, "an account with this email exists")
	}
	return err
}

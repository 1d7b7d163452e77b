package account

import (
	"context"
	"errors"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/mailaddress"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// ForgotPassword mails a token that sets the password, if the email has an account.
func (s *Service) ForgotPassword(ctx context.Context, t *tenantconfig.Tenant, raw string) error {
	if err := s.canMail(); err != nil {
		return err
	}
	by := originOf(ctx)
	email, err := mailaddress.Normalize(raw)
	if err != nil {
		return invalid("email", err.Error())
	}
	limits := append(byAddress(ratelimit.API, "", by.Address), limited{ratelimit.Forgot, email})
	if err := s.take(ctx, t, limits...); err != nil {
		return err
	}
	defer s.settle(ctx, time.Now())
	ring, err := s.ring()
	if err != nil {
		return err
	}
	p := post{ring, t}
	token, stored := store.NewResetToken(resetLifetime)
	real, none, err := p.either(mail.ResetPassword, mail.None, email, p.resetData(token, resetLifetime), resetLifetime)
	if err != nil {
		return err
	}
	return s.posted(s.Store.RequestReset(ctx, t.ID, store.ResetRequest{
		Email: email,
		Token: stored,
		Mail:  real,
		Other: none,
	}, by))
}

// ResetPassword sets a password by a token, once. Every session ends.
func (s *Service) ResetPassword(ctx context.Context, t *tenantconfig.Tenant, token, pw string) error {
	by := originOf(ctx)
	tries, err := s.count(ctx, t, byAddress(ratelimit.Reset, "", by.Address)...)
	if err != nil {
		return err
	}
	ring, err := s.ring()
	if err != nil {
		return err
	}
	hash := resetHash(token)
	owner, err := s.Store.ResetTokenOwner(ctx, t.ID, hash)
	if err != nil {
		return badReset(err)
	}
	if err := checkPassword("password", pw, owner.Email, t); err != nil {
		return err
	}
	newHash, err := s.Hasher.Hash(ctx, pw)
	if err != nil {
		return busy(err)
	}
	_, ended, err := s.Store.ResetPassword(ctx, t.ID, store.PasswordReset{
		TokenHash: hash,
		NewHash:   newHash,
		Mail:      post{ring, t}.notice(ctx, mail.PasswordChanged),
	}, by)
	if err != nil {
		return badReset(err)
	}
	s.forgive(ctx, t, tries)
	s.revoke(t, ended...)
	return nil
}

func badReset(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return invalid("token", "is wrong, was used or has expired: ask for a new one")
	}
	return err
}

// ChangePassword sets a password in place of the current one. The other sessions of who asks end.
func (s *Service) ChangePassword(ctx context.Context, t *tenantconfig.Tenant, current, pw string) error {
	by := originOf(ctx)
	credentials, err := s.Store.CredentialsByID(ctx, t.ID, by.ActorID)
	if err != nil {
		return gone(err)
	}
	tries, leave, err := s.admitLogin(ctx, t, credentials.User.Email, by)
	if err != nil {
		return err
	}
	defer leave()
	if err := checkPassword("newPassword", pw, credentials.User.Email, t); err != nil {
		return err
	}
	ring, err := s.ring()
	if err != nil {
		return err
	}
	ok, _, err := s.Hasher.Verify(ctx, current, credentials.PasswordHash)
	if err != nil {
		return busy(err)
	}
	if !ok {
		if err := s.failed(ctx, t, store.ActionPasswordChanged, credentials.User.Email, "wrong password"); err != nil {
			return err
		}
		return invalid("currentPassword", "is wrong")
	}
	newHash, err := s.Hasher.Hash(ctx, pw)
	if err != nil {
		return busy(err)
	}
	ended, err := s.Store.ChangePassword(ctx, t.ID, store.PasswordChange{
		UserID:   by.ActorID,
		SeenHash: credentials.PasswordHash,
		NewHash:  newHash,
		Mail:     post{ring, t}.notice(ctx, mail.PasswordChanged),
	}, by)
	if errors.Is(err, store.ErrNotFound) {
		return problem.New(problem.Conflict, "the password was changed in the meantime")
	}
	if err == nil {
		s.forgive(ctx, t, tries)
		s.revoke(t, ended...)
	}
	return err
}

// Me returns who asks.
func (s *Service) Me(ctx context.Context, t *tenantconfig.Tenant) (store.User, error) {
	user, err := s.Store.UserByID(ctx, t.ID, api.PrincipalOf(ctx).UserID)
	return user, gone(err)
}

// Sessions returns the live sessions of who asks.
func (s *Service) Sessions(ctx context.Context, t *tenantconfig.Tenant) ([]store.LoginSession, error) {
	return s.Store.ListSessions(ctx, t.ID, api.PrincipalOf(ctx).UserID, s.SessionIdle)
}

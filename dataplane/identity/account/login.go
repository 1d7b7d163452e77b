package account

import (
	"context"
	"errors"

	"github.com/caly-dev/caly/dataplane/identity/session"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/mailaddress"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Login begins a session. Whatever keeps it from that, the answer is one, and so is the work.
func (s *Service) Login(ctx context.Context, t *tenantconfig.Tenant, raw, pw string) (session.Tokens, error) {
	by := originOf(ctx)
	email, err := mailaddress.Normalize(raw)
	if err != nil {
		return session.Tokens{}, invalid("email", err.Error())
	}
	tries, leave, err := s.admitLogin(ctx, t, email, by)
	if err != nil {
		return session.Tokens{}, err
	}
	defer leave()
	if _, err := s.ring(); err != nil { // a session without tokens would be of no use
		return session.Tokens{}, err
	}
	user, newHash, why, err := s.authenticate(ctx, t, email, pw)
	if err != nil {
		return session.Tokens{}, err
	}
	if why == "" {
		tokens, err := s.begin(ctx, t, user, newHash, tries)
		if !errors.Is(err, session.ErrLoginChanged) {
			return tokens, err
		}
		why = "the account changed meanwhile"
	}
	if err := s.failed(ctx, t, store.ActionLogin, email, why); err != nil {
		return session.Tokens{}, err
	}
	return session.Tokens{}, problem.New(problem.Authentication,
		"wrong email or password, or the email is not verified yet")
}

// begin starts the session of a user whose password was right. The login counts as a request of the user, and no longer
// as a guess. ErrLoginChanged as session.Manager.Start has it.
func (s *Service) begin(
	ctx context.Context, t *tenantconfig.Tenant, c store.Credentials, newHash string, tries []counted,
) (session.Tokens, error) {
	if err := s.take(ctx, t, limited{ratelimit.API, c.User.ID}); err != nil {
		return session.Tokens{}, err
	}
	login := session.Login{UserID: c.User.ID, SeenHash: c.PasswordHash, NewHash: newHash}
	tokens, err := s.sessions.Start(ctx, t, login, originOf(ctx))
	if err == nil {
		s.forgive(ctx, t, tries)
	}
	return tokens, err
}

// failed counts a wrong password against the address, and writes an audit row. Beyond the address's limit the answer
// is too_many_attempts, without a row. So the limit also bounds the number of rows.
func (s *Service) failed(ctx context.Context, t *tenantconfig.Tenant, action, email, why string) error {
	if err := s.take(ctx, t, byAddress(ratelimit.LoginFailures, "", originOf(ctx).Address)...); err != nil {
		return err
	}
	return s.audit(ctx, t, action, email, why)
}

// admitLogin counts the try, once there is a place for it: one that nobody will hash costs the database nothing. The
// failures of an address are looked at, and counted only once it has failed.
func (s *Service) admitLogin(ctx context.Context, t *tenantconfig.Tenant, email string, by store.Origin) (
	tries []counted, leave func(), err error,
) {
	logins := byAddress(ratelimit.Login, email+"\x00", by.Address)
	if err := s.blocked(t, append(byAddress(ratelimit.LoginFailures, "", by.Address), logins...)...); err != nil {
		return nil, nil, err
	}
	leave, ok := s.logins.enter(networkKey(by.Address), email)
	if !ok {
		return nil, nil, busy(password.ErrBusy)
	}
	if tries, err = s.count(ctx, t, logins...); err != nil {
		leave()
		return nil, nil, err
	}
	return tries, leave, nil
}

// authenticate checks a password, and returns the audit log's reason if it fails. newHash is set if the stored hash
// should be replaced.
func (s *Service) authenticate(
	ctx context.Context,
	t *tenantconfig.Tenant,
	email, pw string,
) (c store.Credentials, newHash, why string, err error) {
	c, err = s.Store.Credentials(ctx, t.ID, email)
	unknown := errors.Is(err, store.ErrNotFound)
	if err != nil && !unknown {
		return c, "", "", err
	}
	ok, upgrade, err := s.Hasher.Verify(ctx, pw, c.PasswordHash)
	switch {
	case err != nil:
		return c, "", "", busy(err)
	case unknown:
		return c, "", "no such account", nil
	case !ok:
		return c, "", "wrong password", nil
	case c.User.Disabled():
		return c, "", "the account is disabled", nil
	case !c.User.Verified():
		return c, "", "the email is not verified", nil
	case upgrade:
		newHash, err = s.Hasher.Hash(ctx, pw)
		if err != nil { // the old one still does
			newHash = ""
		}
	}
	return c, newHash, "", nil
}

// Refresh takes a refresh token and gives new ones.
func (s *Service) Refresh(ctx context.Context, t *tenantconfig.Tenant, raw string) (session.Tokens, error) {
	by := originOf(ctx)
	if err := s.take(ctx, t, limited{ratelimit.Refresh, addressKey(by.Address)}); err != nil {
		return session.Tokens{}, err
	}
	ring, err := s.ring()
	if err != nil {
		return session.Tokens{}, err
	}
	tokens, err := s.sessions.Refresh(ctx, t, raw, post{ring, t}.notice(ctx, mail.SessionsEnded), by)
	if errors.Is(err, session.ErrInvalid) {
		return session.Tokens{}, problem.New(problem.InvalidToken, "the refresh token is not valid; sign in again")
	}
	return tokens, err
}

// Logout ends the session of who asks.
func (s *Service) Logout(ctx context.Context, t *tenantconfig.Tenant) error {
	by := originOf(ctx)
	err := s.Store.EndSession(ctx, t.ID, store.SessionEnd{
		UserID:    by.ActorID,
		SessionID: by.SessionID,
		Reason:    store.EndLogout,
		Action:    store.ActionLogout,
	}, by)
	if errors.Is(err, store.ErrNotFound) { // ended already
		err = nil
	}
	if err == nil {
		s.revoke(t, by.SessionID)
	}
	return err
}

// LogoutAll ends every session of who asks.
func (s *Service) LogoutAll(ctx context.Context, t *tenantconfig.Tenant) error {
	by := originOf(ctx)
	ended, err := s.Store.EndSessions(ctx, t.ID, by.ActorID, by)
	if err != nil {
		return gone(err)
	}
	s.revoke(t, ended...)
	return nil
}

// RevokeSession ends one session of who asks.
func (s *Service) RevokeSession(ctx context.Context, t *tenantconfig.Tenant, id string) error {
	by := originOf(ctx)
	err := s.Store.EndSession(ctx, t.ID, store.SessionEnd{
		UserID:    by.ActorID,
		SessionID: id,
		Reason:    store.EndRevoked,
		Action:    store.ActionSessionRevoked,
	}, by)
	if errors.Is(err, store.ErrNotFound) {
		return problem.New(problem.NotFound, "you have no session with this ID")
	}
	if err == nil {
		s.revoke(t, id)
	}
	return err
}

// gone answers for a user who was deleted while an access token was out.
func gone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return problem.New(problem.InvalidToken, "the account no longer exists")
	}
	return err
}

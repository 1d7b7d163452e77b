package session

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/caly-dev/caly/dataplane/token"
	"github.com/caly-dev/caly/internal/refreshtoken"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Errors of a Manager.
var (
	// ErrInvalid means that the refresh token is not valid, whatever the reason.
	ErrInvalid = errors.New("the refresh token is not valid")
	// ErrLoginChanged means that the user may not sign in any more, or not with the password that was checked.
	ErrLoginChanged = errors.New("the account has changed since the password was checked")
)

// Minter makes access tokens. *token.Service is one.
type Minter interface {
	Mint(c token.Claims) (string, error)
}

// Revoker shuts out, on this pod at once, what was committed as revoked. *token.Revocations is one.
type Revoker interface {
	Revoke(tenant, userID, sessionID string)
}

// Store keeps the sessions. *store.Dataplane is one.
type Store interface {
	StartSession(ctx context.Context, tenant string, n store.NewSession, by store.Origin) (store.Started, error)
	RotateSession(
		ctx context.Context, tenant string, r store.Refresh, by store.Origin,
	) (store.RefreshState, store.Rotation, error)
}

// Manager begins and refreshes sessions.
type Manager struct {
	Store  Store
	Tokens Minter
	// Revoker may be nil.
	Revoker Revoker
	// Idle ends a session that was not used for so long; 0 means DefaultIdle.
	Idle time.Duration
}

// Tokens are what a client holds.
type Tokens struct {
	Access, Refresh string
	// ExpiresIn is for how long Access is good.
	ExpiresIn time.Duration
	User      store.User
	SessionID string
}

// Login is a user whose password was checked.
type Login struct {
	UserID string
	// SeenHash is the hash that the password was checked against. NewHash, unless empty, takes its place.
	SeenHash, NewHash string
}

// Start begins a session. ErrLoginChanged when the user may not sign in.
func (m *Manager) Start(ctx context.Context, t *tenantconfig.Tenant, login Login, by store.Origin) (Tokens, error) {
	newSession := store.NewSession{
		ID:       store.NewID(),
		UserID:   login.UserID,
		Key:      newKey(),
		Lifetime: t.Auth.SessionLifetime,
		SeenHash: login.SeenHash,
		NewHash:  login.NewHash,
	}
	st, err := m.Store.StartSession(ctx, t.ID, newSession, by)
	if errors.Is(err, store.ErrNotFound) {
		return Tokens{}, ErrLoginChanged
	}
	if err != nil {
		return Tokens{}, err
	}
	return m.answer(t, st.User, st.Session, st.Now, refreshtoken.New(t.ID, newSession.ID, 1, newSession.Key))
}

func newKey() []byte {
	key := make([]byte, refreshtoken.KeySize)
	_, _ = rand.Read(key) // never fails
	return key
}

// Refresh takes a refresh token and gives new ones. ErrInvalid when it is good for nothing. The mail tells of a
// session that was ended because its token had been used before.
func (m *Manager) Refresh(
	ctx context.Context, t *tenantconfig.Tenant, raw string, mail store.MailFor, by store.Origin,
) (Tokens, error) {
	tok, err := refreshtoken.Parse(raw)
	if err != nil {
		return Tokens{}, ErrInvalid
	}
	decide := func(st store.RefreshState) store.Rotation { return Decide(t.ID, tok, st, m.idle()) }
	st, rotation, err := m.Store.RotateSession(ctx, t.ID, store.Refresh{
		SessionID: tok.SessionID,
		TokenHash: refreshtoken.Hash(raw),
		Decide:    decide,
		Mail:      mail,
	}, by)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Tokens{}, ErrInvalid
	case err != nil:
		return Tokens{}, err
	case rotation == store.RotateRefuse:
		return Tokens{}, ErrInvalid
	case rotation == store.RotateEnd:
		m.revoke(t.ID, "", tok.SessionID)
		return Tokens{}, ErrInvalid
	}
	return m.answer(t, st.User, st.Session, st.Now, st.RefreshToken(t.ID))
}

// answer mints the access token. It says that it was issued at the database's time, which revocations are told by, and
// ends with the session.
func (m *Manager) answer(
	t *tenantconfig.Tenant, u store.User, s store.LoginSession, now time.Time, refresh string,
) (Tokens, error) {
	life := min(t.Auth.AccessTokenLifetime, s.ExpiresAt.Sub(now))
	access, err := m.Tokens.Mint(token.Claims{
		Tenant:    t.ID,
		TenantUID: t.UID,
		UserID:    u.ID,
		SessionID: s.ID,
		Role:      u.Role,
		IssuedAt:  now,
		ExpiresAt: now.Add(life),
	})
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{Access: access, Refresh: refresh, ExpiresIn: life, User: u, SessionID: s.ID}, nil
}

func (m *Manager) idle() time.Duration {
	if m.Idle > 0 {
		return m.Idle
	}
	return DefaultIdle
}

func (m *Manager) revoke(tenant, userID, sessionID string) {
	if m.Revoker != nil {
		m.Revoker.Revoke(tenant, userID, sessionID)
	}
}

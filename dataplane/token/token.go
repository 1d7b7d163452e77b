// Package token mints access tokens and checks them: JWTs (RFC 9068) that Ed25519 signs, bound to an issuer, an audience and a tenant.
package token

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/keyring"
)

const (
	// MaxLifetime bounds a token's life. How long revocations are remembered and old keys verify follows from it.
	MaxLifetime = time.Hour
	// Skew is how far in the future, by this pod's clock, a token may have been issued. Its end has no such grace.
	Skew = 30 * time.Second
)

// Claims are what a token says. Those that Check returns are shared: they must not be changed.
type Claims struct {
	// Tenant is namespace/name, TenantUID its UID in Kubernetes: a Tenant that was deleted and made again under the
	// name is another one. The server of a tenant compares both.
	Tenant, TenantUID string
	// UserID and SessionID are UUIDs.
	UserID, SessionID string
	// Role is admin, agent or viewer.
	Role string
	// ID of the token; Mint makes one where it is empty.
	ID string
	// IssuedAt is compared, to the microsecond, with when the user's or the tenant's tokens were revoked, which is the database's time: let
	// it be that of the session's row as it was written (created_at, rotated_at). Zero is the pod's now.
	IssuedAt time.Time
	// ExpiresAt is cut to the second. It is at most MaxLifetime behind IssuedAt.
	ExpiresAt time.Time
}

// Options of New.
type Options struct {
	// Issuer and Audience are in each token, and no token with others is good.
	Issuer, Audience string
	// Ring returns the keys as they are known now, or nil. It is asked at each call, and returns the same pointer as
	// long as nothing changes.
	Ring func() *keyring.Ring
	// Revocations are asked at each check; nil where nothing is ever revoked.
	Revocations *Revocations
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// CacheSize bounds the tokens that are remembered, about half a KiB each; 0 is 20,000.
	CacheSize int
	// Log is told of keys that cannot be used; nil is silent.
	Log *slog.Logger
	// Metrics registers the counter of checks, unless nil.
	Metrics prometheus.Registerer
}

// Service mints and checks.
type Service struct {
	o      Options
	keys   atomic.Pointer[keySet]
	cache  *cache
	checks *checkMetrics
}

// New returns a service.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CacheSize <= 0 {
		o.CacheSize = 20_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{o: o, cache: newCache(o.CacheSize), checks: newCheckMetrics(o.Metrics)}
}

// Ready returns why tokens can be neither minted nor checked.
func (s *Service) Ready() error {
	if s.keySet() == nil || s.o.Revocations != nil && !s.o.Revocations.Loaded() {
		return ErrNotReady
	}
	return nil
}

package api

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/dataplane/token"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Tokens checks access tokens. *token.Service is one.
type Tokens interface {
	Check(raw string) (*token.Claims, error)
}

// Limiter counts requests. *ratelimit.Limiter is one.
type Limiter interface {
	Take(ctx context.Context, t *tenantconfig.Tenant, name ratelimit.Name, key string) ratelimit.Decision
}

// Mode says how much errors tell, and whether the test routes are there.
type Mode string

// Modes.
const (
	Production  Mode = "production"
	Development Mode = "development"
)

// Options of New.
type Options struct {
	// Tenants returns the tenants known now.
	Tenants func() *tenantconfig.Snapshot
	Tokens  Tokens
	Limiter Limiter
	// TenantFrom is what may name a tenant, of path, host and header; empty: all three.
	TenantFrom []string
	// PlatformHosts are the platform's own hosts. They name no tenant, whatever a tenant's config says.
	PlatformHosts tenantconfig.HostPatterns
	// TrustedProxies whose X-Forwarded headers are believed.
	TrustedProxies []netip.Prefix
	// Timeout of a request; 0 means 10 s.
	Timeout time.Duration
	// BodyTimeout is how long a body may take to arrive; 0 means 5 s.
	BodyTimeout time.Duration
	// MaxInFlight is the maximum number of requests in progress; 0 means 1024. Those beyond are answered 503. One
	// tenant, or one client that is not signed in, has at most a quarter of them.
	MaxInFlight int
	// Mode is Production unless it says otherwise.
	Mode Mode
	// TestToken opens the test routes in development; empty: nobody.
	TestToken secret.Sensitive
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, 5*time.Second)
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 1024)
	o.Mode = cmp.Or(o.Mode, Production)
	if len(o.TenantFrom) == 0 {
		o.TenantFrom = []string{FromPath, FromHost, FromHeader}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Check returns an error if Mode or TenantFrom, which flags give, have a value that is not known.
func (o Options) Check() error {
	if o.Mode != "" && o.Mode != Production && o.Mode != Development {
		return fmt.Errorf("mode %q is neither %s nor %s", o.Mode, Production, Development)
	}
	seen := map[string]bool{}
	for _, from := range o.TenantFrom {
		if from != FromPath && from != FromHost && from != FromHeader || seen[from] {
			return fmt.Errorf(
				"%q does not name a tenant, or is there twice: use %s, %s and %s, each at most once",
				from,
				FromPath,
				FromHost,
				FromHeader,
			)
		}
		seen[from] = true
	}
	return nil
}

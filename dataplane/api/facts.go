package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"unicode"

	"github.com/caly-dev/caly/dataplane/admission"
	"github.com/caly-dev/caly/dataplane/token"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// requestIDHeader is set by server.Middleware.
const requestIDHeader = "X-Request-Id"

// maxDevice bounds what is kept of a User-Agent, in bytes.
const maxDevice = 256

// Principal is who asks, proven by an access token.
type Principal struct {
	// Tenant is the id, namespace/name.
	Tenant                  string
	UserID, SessionID, Role string
	Claims                  *token.Claims
}

// facts are what the frame knows of a request. Each step of the frame fills in its part before the handler runs.
type facts struct {
	api       *API
	naming    naming               // by serve
	tenant    *tenantconfig.Tenant // by findTenant or authenticate
	principal *Principal           // by authenticate; nil for public operations
	client    netip.Addr           // by serve, as all that follows
	device    string
	requestID string
	place     *admission.Place
}

type factsKey struct{}

func factsOf(ctx context.Context) *facts {
	f, _ := ctx.Value(factsKey{}).(*facts)
	if f == nil {
		return &facts{}
	}
	return f
}

// TenantOf is the tenant that the request is for: with accounts and not suspended. In a handler it is never nil.
func TenantOf(ctx context.Context) *tenantconfig.Tenant { return factsOf(ctx).tenant }

// PrincipalOf is who asks; nil in public operations.
func PrincipalOf(ctx context.Context) *Principal { return factsOf(ctx).principal }

// ClientOf is the client's address; the invalid address where it cannot be told.
func ClientOf(ctx context.Context) netip.Addr { return factsOf(ctx).client }

// DeviceOf is what the client calls itself: its User-Agent, printable, at most 256 bytes.
func DeviceOf(ctx context.Context) string { return factsOf(ctx).device }

// RequestID names the request in the logs.
func RequestID(ctx context.Context) string { return factsOf(ctx).requestID }

// newFacts are those that need no tenant.
func (a *API) newFacts(w http.ResponseWriter, r *http.Request) *facts {
	f := &facts{api: a, device: printable(r.UserAgent(), maxDevice), requestID: w.Header().Get(requestIDHeader)}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		f.client = verify.ClientAddress(peer, r.Header.Values("X-Forwarded-For"), a.o.TrustedProxies)
	}
	return f
}

// printable is text without what a terminal or page could take for a command, cut at a number of bytes.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s[:min(len(s), limit)])
	return s
}

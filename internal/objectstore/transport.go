package objectstore

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/caly-dev/caly/internal/netguard"
)

// Policy is what the platform, never a tenant, allows of the stores that tenants name.
type Policy struct {
	// AllowHTTP allows stores without TLS.
	AllowHTTP bool
	// AllowedCIDRs are private ranges that stores may be in. All public addresses are allowed.
	AllowedCIDRs []netip.Prefix
	// Egress is the platform's proxy; nil: none.
	Egress *netguard.Egress
}

// PolicyError is the error for an endpoint that the platform does not allow, with what to do.
type PolicyError struct{ reason string }

// Error returns the reason.
func (e *PolicyError) Error() string { return "the S3 endpoint is not allowed: " + e.reason }

// Transport makes the connections to stores. It dials public addresses and the ranges of its Policy only, checked
// on the address of every dial. It bounds every answer.
type Transport struct {
	policy  Policy
	http    *http.Transport
	answers answers
}

// NewTransport returns a transport with every wait bounded, that keeps up to idle connections.
func NewTransport(policy Policy, idle int) *Transport {
	t := &Transport{policy: policy, http: &http.Transport{
		DialContext:            inPieces(netguard.NewDialer(policy.AllowedCIDRs, policy.Egress).DialContext),
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  2 * time.Minute, // from the last byte sent: the store may have a gigabyte to put together
		MaxResponseHeaderBytes: maxHeaders,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConns:           idle,
		MaxIdleConnsPerHost:    idle,
		DisableCompression:     true,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         4 << 10, // answers are short
	}}
	t.answers = answers{next: t.http, within: answerWithin, stall: objectStall}
	return t
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.answers.RoundTrip(req)
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() { t.http.CloseIdleConnections() }

// check returns a *PolicyError if the policy does not allow an endpoint. The addresses behind a name are checked
// when they are dialled.
func (t *Transport) check(endpoint *url.URL) error {
	if endpoint.Scheme != "https" && !t.policy.AllowHTTP {
		return &PolicyError{"plain http is not allowed: use https, or have the platform set storage.allowHTTP " +
			"(--allow-http-storage)"}
	}
	addr, err := netip.ParseAddr(endpoint.Hostname())
	if err == nil && !netguard.Allowed(t.policy.AllowedCIDRs, addr) {
		return &PolicyError{fmt.Sprintf("the address %s is not public: use a public store, or have the platform add "+
			"its range to "+
			"storage.allowedCIDRs (--allowed-storage-cidrs)", addr)}
	}
	return nil
}

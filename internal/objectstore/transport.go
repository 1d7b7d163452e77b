package objectstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
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
type PolicyError struct {
	// public means the endpoint for links.
	public bool
	reason string
}

// Error returns the reason.
func (e *PolicyError) Error() string {
	if e.public {
		return "the public S3 endpoint is not allowed: " + e.reason
	}
	return "the S3 endpoint is not allowed: " + e.reason
}

// CheckPublic returns a *PolicyError if the policy does not allow the endpoint for links. People's browsers ask it, so
// its address is not judged; but over plain http a link, which is as good as a password, and the recording are open.
func (t *Transport) CheckPublic(endpoint string) error {
	address, err := url.Parse(endpoint)
	if endpoint == "" || err == nil && address.Scheme == "https" || t != nil && t.policy.AllowHTTP {
		return nil
	}
	return &PolicyError{public: true, reason: plainHTTP}
}

const plainHTTP = "plain http is not allowed: use https, or have the platform set storage.allowHTTP " +
	"(--allow-http-storage)"

// Transport makes the connections to stores. It dials public addresses and the ranges of its Policy only, checked
// on the address of every dial. It bounds every answer.
type Transport struct {
	policy  Policy
	http    *http.Transport
	answers answers

	mu sync.Mutex
	// private are the transports for stores with authorities of their own, by those.
	private map[string]*Transport
}

// maxPrivate bounds the transports for stores with authorities of their own.
const maxPrivate = 256

// NewTransport returns a transport with every wait bounded, that keeps up to idle connections.
func NewTransport(policy Policy, idle int) *Transport {
	t := &Transport{
		policy: policy,
		http: &http.Transport{
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
		},
	}
	t.answers = answers{next: t.http, within: answerWithin, stall: objectStall}
	return t
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.answers.RoundTrip(req)
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.http.CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.private {
		p.http.CloseIdleConnections()
	}
}

// trusting returns the transport for stores whose certificates are signed by the authorities of a bundle in PEM, and
// by no other; for an empty one itself.
func (t *Transport) trusting(bundle string) (*Transport, error) {
	if bundle == "" {
		return t, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if transport := t.private[bundle]; transport != nil {
		return transport, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(bundle)) {
		return nil, errors.New("the authorities of the store are not certificates in PEM")
	}
	for bundle, p := range t.private { // any one makes room
		if len(t.private) < maxPrivate {
			break
		}
		p.http.CloseIdleConnections()
		delete(t.private, bundle)
	}
	if t.private == nil {
		t.private = map[string]*Transport{}
	}
	transport := &Transport{policy: t.policy, http: t.http.Clone()}
	transport.http.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	transport.answers = answers{next: transport.http, within: t.answers.within, stall: t.answers.stall}
	t.private[bundle] = transport
	return transport, nil
}

// check returns a *PolicyError if the policy does not allow an endpoint. The addresses behind a name are checked
// when they are dialled.
func (t *Transport) check(endpoint *url.URL) error {
	if endpoint.Scheme != "https" && !t.policy.AllowHTTP {
		return &PolicyError{reason: plainHTTP}
	}
	addr, err := netip.ParseAddr(endpoint.Hostname())
	if err == nil && !netguard.Allowed(t.policy.AllowedCIDRs, addr) {
		return &PolicyError{reason: fmt.Sprintf("the address %s is not public: use a public store, or have the "+
			"platform add its range to storage.allowedCIDRs (--allowed-storage-cidrs)", addr)}
	}
	return nil
}

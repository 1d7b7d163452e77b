// Package netguard makes connections to hosts that tenants name, and so to no host of the platform's own network.
package netguard

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// NewTransport dials public addresses and the allowed ranges only. The check is made on the address of every dial: redirects,
// DNS answers that change and literal addresses all pass through it. It keeps up to idle connections.
func NewTransport(allowed []netip.Prefix, egress *Egress, idle int) *http.Transport {
	return &http.Transport{
		DialContext:            NewDialer(allowed, egress).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConns:           idle,
		MaxIdleConnsPerHost:    idle,
		DisableCompression:     true, // the bytes as they are
	}
}

// keepAlive is the time between probes of an idle connection.
const keepAlive = 30 * time.Second

// Dialer dials public addresses and the allowed ranges only, directly or through the platform's proxy.
type Dialer struct {
	guard  guard
	direct *net.Dialer
	egress *Egress
}

// NewDialer returns a Dialer. The check is made on the address of every dial.
func NewDialer(allowed []netip.Prefix, egress *Egress) *Dialer {
	g := newGuard(allowed)
	return &Dialer{
		guard:  g,
		egress: egress,
		direct: &net.Dialer{Timeout: 5 * time.Second, KeepAlive: keepAlive, Control: g.control},
	}
}

// DialContext connects to host:port.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if d.egress.via(address) {
		return d.egress.dial(ctx, d.guard, address)
	}
	return d.direct.DialContext(ctx, network, address)
}

// Control judges the address of a direct dial, as net.Dialer's Control does.
func (d *Dialer) Control(network, address string, c syscall.RawConn) error {
	return d.guard.control(network, address, c)
}

// Allowed reports whether a dialer of NewDialer connects to an address.
func Allowed(allowed []netip.Prefix, addr netip.Addr) bool {
	return newGuard(allowed).check(addr.WithZone("")) == nil
}

// guard judges addresses. An address of NAT64 (RFC 6052) stands for the IPv4 address in it, which must be public.
type guard struct{ direct, embedded *ssrf.Guardian }

func (g guard) control(network, address string, c syscall.RawConn) error {
	if at, err := netip.ParseAddrPort(address); err == nil {
		if inner, ok := EmbeddedIPv4(at.Addr()); ok {
			return g.embedded.Safe("tcp4", netip.AddrPortFrom(inner, at.Port()).String(), c)
		}
	}
	return g.direct.Safe(network, address, c)
}

func (g guard) check(addr netip.Addr) error {
	if inner, ok := EmbeddedIPv4(addr); ok {
		return g.embedded.SafeAddr(inner)
	}
	return g.direct.SafeAddr(addr)
}

// nat64 is the well-known prefix under which DNS64 names IPv4 addresses to hosts that have only IPv6.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// EmbeddedIPv4 returns the IPv4 address that an address of the well-known prefix of NAT64 stands for.
func EmbeddedIPv4(addr netip.Addr) (netip.Addr, bool) {
	if !nat64.Contains(addr) {
		return netip.Addr{}, false
	}
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}

func newGuard(allowed []netip.Prefix) guard {
	var v4, v6 []netip.Prefix
	for _, p := range allowed {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	// Which ports may be dialled is the policy's business.
	return guard{
		direct:   ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)),
		embedded: ssrf.New(ssrf.WithAnyPort()),
	}
}

// Package netguard makes connections to hosts that tenants name, and so to no host of the platform's own network.
package netguard

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"time"

	"code.dny.dev/ssrf"
)

// NewTransport dials public addresses and the allowed ranges only. The check is made on the address of every dial: redirects,
// DNS answers that change and literal addresses all pass through it. No proxy: it would dial for us. It keeps so many idle
// connections.
func NewTransport(allowed []netip.Prefix, idle int) *http.Transport {
	return &http.Transport{
		DialContext:            NewDialer(allowed).DialContext,
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

// NewDialer dials public addresses and the allowed ranges only, checked on the address of every dial.
func NewDialer(allowed []netip.Prefix) *net.Dialer {
	return &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second, Control: newGuard(allowed).Safe}
}

// Allowed reports whether a dialer of NewDialer connects to an address.
func Allowed(allowed []netip.Prefix, addr netip.Addr) bool {
	return newGuard(allowed).SafeAddr(addr.WithZone("")) == nil
}

func newGuard(allowed []netip.Prefix) *ssrf.Guardian {
	var v4, v6 []netip.Prefix
	for _, p := range allowed {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	// Which ports may be dialled is the policy's business.
	return ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
}

package verify

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// verifyAddress looks at where the request comes from.
func verifyAddress(allowed []netip.Prefix, r *Request) finding {
	if !contains(allowed, r.ClientIP) {
		return refuse(ReasonWrongAddress)
	}
	return bearer()
}

// contains tells whether an address, v4 in v6 or not, is in any of the ranges. The invalid address is in none.
func contains(ranges []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	in := false
	for _, p := range ranges {
		in = p.Contains(addr) || in
	}
	return in
}

// FromTrusted reports whether the peer of the request's connection is a trusted proxy.
func FromTrusted(r *http.Request, trusted []netip.Prefix) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && contains(trusted, peer.Addr())
}

// ClientAddress is where a request comes from: the peer, or, for as long as that is a trusted proxy, the hop before it, read from
// the right end of X-Forwarded-For, whose lines are xff. What stands further left anybody may have written. Where all hops are
// trusted it is the leftmost. Behind a hop that cannot be read it is the invalid address, which no range contains.
func ClientAddress(remote netip.AddrPort, xff []string, trusted []netip.Prefix) netip.Addr {
	addr := remote.Addr().Unmap().WithZone("")
	for line := len(xff) - 1; line >= 0; line-- {
		for rest, more := xff[line], true; more; {
			if !contains(trusted, addr) {
				return addr
			}
			var hop string
			rest, hop, more = cutLast(rest)
			if addr = parseHop(hop); !addr.IsValid() {
				return addr
			}
		}
	}
	return addr
}

// cutLast takes the last element off a list.
func cutLast(list string) (rest, last string, more bool) {
	if i := strings.LastIndexByte(list, ','); i >= 0 {
		return list[:i], list[i+1:], true
	}
	return "", list, false
}

// parseHop reads an address, alone, in brackets, or with a port, as proxies write them.
func parseHop(s string) netip.Addr {
	s = strings.TrimSpace(s)
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone("")
}

// OutsideURL is the URL of a request as its sender wrote it. Of X-Forwarded-Proto and X-Forwarded-Host the first value is
// taken, and only from a trusted proxy. A sender that forges it gains nothing: the URL is used as what a signature must be of.
func OutsideURL(r *http.Request, trusted []netip.Prefix) *url.URL {
	u := *r.URL
	u.Scheme = "http"
	u.Host = r.Host
	u.User = nil
	if r.TLS != nil {
		u.Scheme = "https"
	}
	if !FromTrusted(r, trusted) {
		return &u
	}
	if proto := strings.ToLower(first(r.Header.Get("X-Forwarded-Proto"))); proto == "http" || proto == "https" {
		u.Scheme = proto
	}
	if host := first(r.Header.Get("X-Forwarded-Host")); host != "" && !strings.ContainsAny(host, "/?#@\\ \t") {
		u.Host = host
	}
	return &u
}

func first(list string) string {
	value, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(value)
}

// NewRequest is what verifiers look at of a request whose body was read.
func NewRequest(r *http.Request, body []byte, pathToken string, trusted []netip.Prefix, now time.Time) *Request {
	var client netip.Addr
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		client = ClientAddress(peer, r.Header.Values("X-Forwarded-For"), trusted)
	}
	return &Request{
		Method:    r.Method,
		URL:       OutsideURL(r, trusted),
		Header:    r.Header,
		Body:      body,
		PathToken: pathToken,
		ClientIP:  client,
		Now:       now,
	}
}

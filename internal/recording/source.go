package recording

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/netguard"
)

// SourcePolicy says where recordings may be fetched from. AllowHTTP and AllowedCIDRs are the platform's, never a tenant's.
type SourcePolicy struct {
	// Hosts the tenant allows.
	Hosts []string
	// AllowHTTP admits plain http.
	AllowHTTP bool
	// AllowedCIDRs are private ranges that may be dialled all the same.
	AllowedCIDRs []netip.Prefix
}

// SourceError says why a recording's URL is refused, and what to do.
type SourceError struct {
	Reason string
}

// Error returns the reason.
func (e *SourceError) Error() string { return e.Reason }

// Validate returns a *SourceError if a recording may not be fetched from the URL. The address behind the host's name is
// checked when it is dialled, not here.
func (p SourcePolicy) Validate(rawURL string) error {
	address, err := url.Parse(rawURL)
	if err != nil || address.Hostname() == "" || len(rawURL) > 2048 {
		return &SourceError{"the source URL cannot be read: it must be an absolute URL of at most 2048 bytes"}
	}
	if address.User != nil {
		return &SourceError{
			"the source URL carries credentials: leave them out, the Tenant's Exotel credentials are used",
		}
	}
	if address.Scheme != "https" && (address.Scheme != "http" || !p.AllowHTTP) {
		return &SourceError{fmt.Sprintf("the source URL's scheme is %q: it must be https", address.Scheme)}
	}
	if addr, err := netip.ParseAddr(strings.TrimSuffix(address.Hostname(), ".")); err == nil &&
		!p.addressAllowed(addr) {
		return &SourceError{fmt.Sprintf("the source address %s is private: recordings are fetched from public hosts, "+
			"or from ranges that the platform allows (--allowed-source-cidrs)", addr)}
	}
	if !hostAllowed(p.Hosts, address) {
		return &SourceError{
			fmt.Sprintf(
				"the source host %s is not one that the Tenant allows: add it to spec.recordings.allowedSourceHosts",
				address.Host,
			),
		}
	}
	return nil
}

// specialRanges are not private by name, and lead into private networks all the same: shared, reserved and benchmark ranges, and
// those that carry an IPv4 address within (NAT64 of other prefixes, Teredo, 6to4).
var specialRanges = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

func (p SourcePolicy) addressAllowed(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if inner, ok := netguard.EmbeddedIPv4(addr); ok {
		return SourcePolicy{}.addressAllowed(inner)
	}
	for _, c := range p.AllowedCIDRs {
		if c.Contains(addr) {
			return true
		}
	}
	special := slices.ContainsFunc(specialRanges, func(r netip.Prefix) bool { return r.Contains(addr) })
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !special
}

// hostAllowed reports whether a URL's host is one of the list: a host name, or "*." and a domain for every host below
// it,
// each with an optional port (without: the scheme's own port). A "/" and a name after it allow the paths below that
// name only,
// which is a bucket of S3.
func hostAllowed(hosts []string, u *url.URL) bool {
	name := strings.ToLower(u.Hostname())
	port := effectivePort(u)
	for _, h := range hosts {
		h, bucket, inBucket := strings.Cut(h, "/")
		if inBucket && !exotel.InPath(u, bucket) {
			continue
		}
		host, wantPort := splitPort(strings.ToLower(h))
		if wantPort == "" {
			wantPort = defaultPort(u.Scheme)
		}
		if port == wantPort && hostMatches(host, name) {
			return true
		}
	}
	return false
}

func hostMatches(pattern, name string) bool {
	if domain, ok := strings.CutPrefix(pattern, "*"); ok && strings.HasPrefix(domain, ".") {
		return strings.HasSuffix(name, domain) && len(name) > len(domain)
	}
	return pattern == name
}

func splitPort(h string) (host, port string) {
	if i := strings.LastIndexByte(h, ':'); i >= 0 && !strings.Contains(h[i:], "]") {
		return strings.Trim(h[:i], "[]"), h[i+1:]
	}
	return strings.Trim(h, "[]"), ""
}

func effectivePort(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return defaultPort(u.Scheme)
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}

package tenantconfig

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// reservedSuffixes are domains whose names belong to no tenant: this machine and the Services of a cluster.
var reservedSuffixes = []string{"localhost", "svc", "cluster.local"}

// ReservedHost reports whether a host name can belong to no tenant of any platform: an IP address, a name without a
// dot, this machine, or a Service of the cluster.
func ReservedHost(host string) bool {
	host = NormalHost(host)
	labels := strings.Split(host, ".")
	if len(labels) < 2 || isNumber(labels[len(labels)-1]) {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for _, suffix := range reservedSuffixes {
		if host == suffix || strings.HasSuffix(host, "."+suffix) {
			return true
		}
	}
	return false
}

// isNumber reports whether browsers take a host that ends in the label for an IPv4 address: 127.1 and 0x7f.0x1 are
// 127.0.0.1.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		_, err := strconv.ParseUint("0"+hex, 16, 64)
		return err == nil
	}
	return label != "" && strings.Trim(label, "0123456789") == ""
}

// NormalHost returns a host name as requests are compared with it: in lower case, without a port and without a final
// dot.
func NormalHost(host string) string {
	host = strings.ToLower(strings.TrimSpace(host))
	if name, port, ok := strings.Cut(host, ":"); ok && strings.Trim(port, "0123456789") == "" {
		host = name
	}
	return strings.TrimSuffix(host, ".")
}

// HostPatterns are host names, each exact or "*." and a domain, which stands for every name below it.
type HostPatterns []string

// ParseHostPatterns returns the patterns of a list, in normal form. publicURL may be empty; else its host is one of
// them.
func ParseHostPatterns(publicURL string, list []string) (HostPatterns, error) {
	var patterns HostPatterns
	if publicURL != "" {
		address, err := url.Parse(publicURL)
		if err != nil {
			return nil, fmt.Errorf("the public URL %q is not a URL", publicURL)
		}
		if address.Hostname() != "" {
			patterns = append(patterns, NormalHost(address.Hostname()))
		}
	}
	for _, raw := range list {
		pattern := NormalHost(raw)
		if err := checkHost(strings.TrimPrefix(pattern, "*.")); err != nil {
			return nil, fmt.Errorf("%q is neither a host name nor \"*.\" and a domain", raw)
		}
		patterns = append(patterns, pattern)
	}
	return patterns, nil
}

// Match reports whether a host name matches one of the patterns.
func (p HostPatterns) Match(host string) bool {
	host = NormalHost(host)
	for _, pattern := range p {
		domain, wildcard := strings.CutPrefix(pattern, "*")
		if host == pattern || wildcard && strings.HasSuffix(host, domain) {
			return true
		}
	}
	return false
}

package netguard_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/caly-dev/caly/internal/netguard"
)

// TestAddresses asks a dialer's own control function, and Allowed, about addresses of every kind.
func TestAddresses(t *testing.T) {
	tests := map[string]struct {
		network, address string
		allowed          []string
		want             bool
	}{
		"public":                               {"tcp4", "52.219.62.1:443", nil, true},
		"public, another port":                 {"tcp4", "52.219.62.1:9000", nil, true},
		"public IPv6":                          {"tcp6", "[2600:1f18::1]:443", nil, true},
		"private 10/8":                         {"tcp4", "10.0.0.1:443", nil, false},
		"private 172.16/12":                    {"tcp4", "172.31.255.255:443", nil, false},
		"private 192.168/16":                   {"tcp4", "192.168.1.1:443", nil, false},
		"carrier-grade NAT":                    {"tcp4", "100.64.0.1:443", nil, false},
		"loopback":                             {"tcp4", "127.0.0.1:443", nil, false},
		"all of loopback":                      {"tcp4", "127.200.3.4:443", nil, false},
		"loopback IPv6":                        {"tcp6", "[::1]:443", nil, false},
		"this host":                            {"tcp4", "0.0.0.0:443", nil, false},
		"this network":                         {"tcp4", "0.1.2.3:443", nil, false},
		"this host, IPv6":                      {"tcp6", "[::]:443", nil, false},
		"link-local":                           {"tcp4", "169.254.1.1:443", nil, false},
		"metadata":                             {"tcp4", "169.254.169.254:80", nil, false},
		"metadata IPv6":                        {"tcp6", "[fd00:ec2::254]:80", nil, false},
		"metadata of another cloud":            {"tcp4", "100.100.100.200:80", nil, false},
		"link-local IPv6":                      {"tcp6", "[fe80::1]:443", nil, false},
		"link-local IPv6 with a zone":          {"tcp6", "[fe80::1%lo]:443", nil, false},
		"site-local":                           {"tcp6", "[fec0::1]:443", nil, false},
		"unique local":                         {"tcp6", "[fd12:3456::1]:443", nil, false},
		"multicast":                            {"tcp4", "224.0.0.1:443", nil, false},
		"multicast IPv6":                       {"tcp6", "[ff02::1]:443", nil, false},
		"broadcast":                            {"tcp4", "255.255.255.255:443", nil, false},
		"reserved":                             {"tcp4", "240.0.0.1:443", nil, false},
		"benchmark":                            {"tcp4", "198.18.0.1:443", nil, false},
		"documentation":                        {"tcp4", "203.0.113.1:443", nil, false},
		"documentation IPv6":                   {"tcp6", "[2001:db8::1]:443", nil, false},
		"mapped loopback":                      {"tcp6", "[::ffff:127.0.0.1]:443", nil, false},
		"mapped metadata":                      {"tcp6", "[::ffff:169.254.169.254]:80", nil, false},
		"mapped private":                       {"tcp6", "[::ffff:10.0.0.1]:443", nil, false},
		"compatible loopback":                  {"tcp6", "[::127.0.0.1]:443", nil, false},
		"NAT64 of metadata":                    {"tcp6", "[64:ff9b::a9fe:a9fe]:80", nil, false},
		"local NAT64 of loopback":              {"tcp6", "[64:ff9b:1::7f00:1]:80", nil, false},
		"6to4 of loopback":                     {"tcp6", "[2002:7f00:1::]:80", nil, false},
		"Teredo":                               {"tcp6", "[2001::1]:80", nil, false},
		"discard":                              {"tcp6", "[100::1]:80", nil, false},
		"allowed range":                        {"tcp4", "10.3.0.9:9000", []string{"10.3.0.0/16"}, true},
		"next to the allowed range":            {"tcp4", "10.4.0.9:9000", []string{"10.3.0.0/16"}, false},
		"allowed range, mapped":                {"tcp6", "[::ffff:10.3.0.9]:9000", []string{"10.3.0.0/16"}, false},
		"allowed range IPv6":                   {"tcp6", "[fd03::9]:9000", []string{"fd03::/16"}, true},
		"an allowed range of the other family": {"tcp4", "10.3.0.9:9000", []string{"fd03::/16"}, false},
		"not an address":                       {"tcp4", "example.com:443", nil, false},
		"another protocol":                     {"udp4", "52.219.62.1:443", nil, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var allowed []netip.Prefix
			for _, s := range tc.allowed {
				allowed = append(allowed, netip.MustParsePrefix(s))
			}
			err := netguard.NewDialer(allowed, nil).Control(tc.network, tc.address, nil)
			if (err == nil) != tc.want {
				t.Errorf("Control(%s) = %v, want it allowed: %v", tc.address, err, tc.want)
			}
			if at, err := netip.ParseAddrPort(tc.address); err == nil && tc.network != "udp4" {
				if got := netguard.Allowed(allowed, at.Addr()); got != tc.want {
					t.Errorf("Allowed(%s) = %v, want %v", at.Addr(), got, tc.want)
				}
			}
		})
	}
}

// TestNoProxy verifies that the transport ignores a proxy of the environment. Such a proxy would connect to any address
// in place of the dialer.
func TestNoProxy(t *testing.T) {
	if netguard.NewTransport(nil, nil, 1).Proxy != nil {
		t.Error("the transport uses a proxy")
	}
}

// TestMappedAddressIsDialled dials loopback in its IPv6 form, which Go dials as IPv4.
func TestMappedAddressIsDialled(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	conn, err := netguard.NewDialer(nil, nil).DialContext(context.Background(), "tcp",
		net.JoinHostPort("::ffff:127.0.0.1", port))
	if err == nil {
		_ = conn.Close()
		t.Error("connected to loopback")
	}
}

package main

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestFindOwn(t *testing.T) {
	address := func(cidr string) net.Addr {
		ip, network, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		return &net.IPNet{IP: ip, Mask: network.Mask}
	}
	var pod []net.Addr
	for _, cidr := range []string{"127.0.0.1/8", "::1/128", "fe80::1/64", "10.1.2.3/24", "2001:db8::7/64"} {
		pod = append(pod, address(cidr))
	}
	own := func(cidr, ip string) []proxiesOfOwn {
		return []proxiesOfOwn{{Range: netip.MustParsePrefix(cidr), Address: netip.MustParseAddr(ip)}}
	}
	for name, tc := range map[string]struct {
		cidr string
		want []proxiesOfOwn
	}{
		"all pods":                   {cidr: "10.0.0.0/8", want: own("10.0.0.0/8", "10.1.2.3")},
		"all addresses":              {cidr: "0.0.0.0/0", want: own("0.0.0.0/0", "10.1.2.3")},
		"all addresses of version 6": {cidr: "::/0", want: own("::/0", "2001:db8::7")},
		"the pods of this node":      {cidr: "10.1.2.0/24", want: own("10.1.2.0/24", "10.1.2.3")},
		"an ingress":                 {cidr: "10.1.9.4/32"},
		"nodes":                      {cidr: "192.168.10.0/24"},
		"the pod's loopback":         {cidr: "127.0.0.0/8"},
		"the pod's link":             {cidr: "fe80::/10"},
	} {
		got := findOwn([]netip.Prefix{netip.MustParsePrefix(tc.cidr)}, pod)
		if diff := cmp.Diff(tc.want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestWarnOfOwn looks at this machine's own addresses.
func TestWarnOfOwn(t *testing.T) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	every := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	var logged bytes.Buffer
	warnOfOwn(slog.New(slog.NewTextHandler(&logged, nil)), every)
	want := len(findOwn(every, addresses))
	if got := strings.Count(logged.String(), "--trusted-proxies contains"); got != want {
		t.Errorf("%d warnings, want %d:\n%s", got, want, logged.String())
	}
	logged.Reset()
	warnOfOwn(slog.New(slog.NewTextHandler(&logged, nil)), []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")})
	if logged.Len() != 0 {
		t.Errorf("a range without this machine is warned of: %s", logged.String())
	}
}

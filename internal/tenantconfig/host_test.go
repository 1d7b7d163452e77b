package tenantconfig

import (
	"net/netip"
	"strings"
	"testing"
)

func TestReservedHost(t *testing.T) {
	for host, want := range map[string]bool{
		"voice.acme.example":             false,
		"VOICE.acme.example.":            false,
		"xn--bcher-kva.example":          false,
		"svc.acme.example":               false,
		"notlocalhost.example":           false,
		"0x.example":                     false,
		"":                               true,
		"localhost":                      true,
		"LOCALHOST.":                     true,
		"a.localhost":                    true,
		"caly-dataplane":                 true,
		"caly-dataplane.caly-system.svc": true,
		"caly-dataplane.caly-system.svc.cluster.local": true,
		"Caly-Dataplane.caly-system.SVC.":              true,
		"10.0.0.1":                                     true,
		"10.0.0.1:8080":                                true,
		"127.1":                                        true,
		"0x7f.0x1":                                     true,
		"1.0x":                                         true,
		"a.b.1":                                        true,
		"::1":                                          true,
		"fd00::1":                                      true,
	} {
		if got := ReservedHost(host); got != want {
			t.Errorf("ReservedHost(%q) is %v, want %v", host, got, want)
		}
	}
}

func TestHostPatterns(t *testing.T) {
	list := []string{"caly.caly-system", "*.platform.example"}
	patterns, err := ParseHostPatterns("https://Voice.Example:8443/base", list)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"voice.example":           true,
		"VOICE.EXAMPLE.":          true,
		"voice.example:443":       true,
		"caly.caly-system":        true,
		"a.platform.example":      true,
		"a.b.platform.example":    true,
		"platform.example":        false,
		"notplatform.example":     false,
		"x.voice.example":         false,
		"voice.example.evil.test": false,
		"":                        false,
	} {
		if got := patterns.Match(host); got != want {
			t.Errorf("Match(%q) is %v, want %v", host, got, want)
		}
	}
	for _, bad := range []string{"", "*", "a b", "https://voice.example", "*.*.example", "a.*.example", "é.example"} {
		if got, err := ParseHostPatterns("", []string{bad}); err == nil {
			t.Errorf("ParseHostPatterns takes %q for %v", bad, got)
		}
	}
}

// FuzzHost checks that no spelling of a host makes a reserved one free: what requests are compared with is the normal
// form.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"voice.example", "localhost.", "A.svc:80", "0x7f.1", "[::1]:80", "127.0.0.1."} {
		f.Add(seed)
	}
	patterns, err := ParseHostPatterns("https://voice.example", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		normal := NormalHost(host)
		if checkHost(normal) != nil {
			return // no Tenant may have it, and no request names it
		}
		if NormalHost(normal) != normal || ReservedHost(host) != ReservedHost(normal) ||
			patterns.Match(host) != patterns.Match(normal) {
			t.Errorf("%q and its normal form %q are judged differently", host, normal)
		}
		if _, err := netip.ParseAddr(normal); err == nil && !ReservedHost(host) {
			t.Errorf("the address %q is not reserved", host)
		}
		if strings.HasSuffix(normal, ".svc") && !ReservedHost(host) {
			t.Errorf("the Service %q is not reserved", host)
		}
	})
}

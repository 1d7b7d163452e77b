package netguard_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/netguard"
)

// TestTransport dials a server on loopback, by address and by name, directly and behind a redirect.
func TestTransport(t *testing.T) {
	target := httptest.NewServer(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
	)
	defer target.Close()
	byName := strings.Replace(target.URL, "127.0.0.1", "localhost", 1)
	redirect := httptest.NewServer(http.RedirectHandler(byName, http.StatusFound))
	defer redirect.Close()
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for name, tc := range map[string]struct {
		allowed []netip.Prefix
		url     string
		wantErr bool
	}{
		"by address":          {nil, target.URL, true},
		"by name":             {nil, byName, true},
		"another range":       {[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, target.URL, true},
		"allowed":             {loopback, target.URL, false},
		"allowed, by name":    {loopback, byName, false},
		"allowed, redirected": {loopback, redirect.URL, false},
	} {
		t.Run(name, func(t *testing.T) {
			transport := netguard.NewTransport(tc.allowed, nil, 1)
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Get(tc.url)
			if err == nil {
				_ = resp.Body.Close()
			}
			if (err != nil) != tc.wantErr {
				t.Errorf("got %v, want an error: %v", err, tc.wantErr)
			}
		})
	}
}

package verify_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/verify"
)

var proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

func TestClientAddress(t *testing.T) {
	const none = "invalid IP"
	for name, tc := range map[string]struct {
		remote string
		xff    []string
		want   string
	}{
		"no proxy":                    {"203.0.113.7:1", nil, "203.0.113.7"},
		"no proxy, a forged header":   {"203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7"},
		"no proxy, an invalid header": {"203.0.113.7:1", []string{"x"}, "203.0.113.7"},
		"one proxy":                   {"10.0.0.1:1", []string{"203.0.113.7"}, "203.0.113.7"},
		"one proxy, forged in front":  {"10.0.0.1:1", []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		"forged to look like a proxy": {
			"10.0.0.1:1",
			[]string{"198.51.100.1, 10.9.9.9, 203.0.113.7"},
			"203.0.113.7",
		},
		"two proxies": {"10.0.0.1:1", []string{"203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		"two lines":   {"10.0.0.1:1", []string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		"two lines, the last of proxies": {
			"10.0.0.1:1",
			[]string{"198.51.100.1,203.0.113.7", "10.0.0.2 , 10.0.0.3"},
			"203.0.113.7",
		},
		"a client within":         {"10.0.0.1:1", []string{"10.0.0.9, 10.0.0.2"}, "10.0.0.9"},
		"proxy without a header":  {"10.0.0.1:1", nil, "10.0.0.1"},
		"an empty header":         {"10.0.0.1:1", []string{""}, none},
		"an empty hop":            {"10.0.0.1:1", []string{"203.0.113.7,"}, none},
		"an invalid hop":          {"10.0.0.1:1", []string{"203.0.113.7, unknown"}, none},
		"an invalid hop, further": {"10.0.0.1:1", []string{"unknown, 203.0.113.7"}, "203.0.113.7"},
		"a name":                  {"10.0.0.1:1", []string{"localhost"}, none},
		"a range":                 {"10.0.0.1:1", []string{"203.0.113.0/24"}, none},
		"octal":                   {"10.0.0.1:1", []string{"0313.0.113.7"}, none},
		"with a port":             {"10.0.0.1:1", []string{"203.0.113.7:4711"}, "203.0.113.7"},
		"v6":                      {"[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		"v6 in brackets":          {"[fd00::1]:1", []string{"[2001:db8::1]"}, "2001:db8::1"},
		"v6 with a port":          {"[fd00::1]:1", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		"v6 with a zone":          {"[fd00::1]:1", []string{"fe80::1%eth0"}, "fe80::1"},
		"v4 in v6 as proxy":       {"[::ffff:10.0.0.1]:1", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := verify.ClientAddress(
				netip.MustParseAddrPort(tc.remote), tc.xff, proxies,
			).String(); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
	if got := verify.ClientAddress(netip.AddrPort{}, []string{"203.0.113.7"}, proxies); got.IsValid() {
		t.Errorf("a peer that is not known has the address %s", got)
	}
	if got := verify.ClientAddress(
		netip.MustParseAddrPort("10.0.0.1:1"), []string{"203.0.113.7"}, nil,
	); got.String() != "10.0.0.1" {
		t.Errorf("without trusted proxies the client is %s", got)
	}
}

func TestOutsideURL(t *testing.T) {
	const target = "/webhooks/exotel/acme/support/status?a=%20b&token=x"
	for name, tc := range map[string]struct {
		remote      string
		tls         bool
		proto, host string
		want        string
	}{
		"direct":          {"203.0.113.7:1", false, "", "", "http://pod.example" + target},
		"direct over TLS": {"203.0.113.7:1", true, "", "", "https://pod.example" + target},
		"direct, forged": {
			"203.0.113.7:1",
			false,
			"https",
			"voice.example",
			"http://pod.example" + target,
		},
		"through a proxy": {
			"10.0.0.1:1",
			false,
			"https",
			"voice.example",
			"https://voice.example" + target,
		},
		"through a proxy, in upper case": {"10.0.0.1:1", false, "HTTPS", "", "https://pod.example" + target},
		"through two": {
			"10.0.0.1:1",
			false,
			"https, http",
			"voice.example, inner.example",
			"https://voice.example" + target,
		},
		"through a proxy that says nothing": {"10.0.0.1:1", true, "", "", "https://pod.example" + target},
		"another scheme":                    {"10.0.0.1:1", false, "javascript", "", "http://pod.example" + target},
		"a host with a path": {
			"10.0.0.1:1",
			false,
			"",
			"voice.example/x",
			"http://pod.example" + target,
		},
		"a host with a user": {"10.0.0.1:1", false, "", "u@voice.example", "http://pod.example" + target},
		"a host with a port": {
			"10.0.0.1:1",
			false,
			"https",
			"voice.example:8443",
			"https://voice.example:8443" + target,
		},
		"a peer that cannot be read": {"@", false, "https", "voice.example", "http://pod.example" + target},
	} {
		t.Run(name, func(t *testing.T) {
			req := httptest.NewRequest(http.MethodPost, target, nil)
			req.RemoteAddr = tc.remote
			req.Host = "pod.example"
			if tc.tls {
				req.TLS = &tls.ConnectionState{}
			}
			for k, v := range map[string]string{"X-Forwarded-Proto": tc.proto, "X-Forwarded-Host": tc.host} {
				if v != "" {
					req.Header.Set(k, v)
				}
			}
			before := req.URL.String()
			if got := verify.OutsideURL(req, proxies).String(); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			if req.URL.String() != before {
				t.Errorf("the request's own URL was changed to %s", req.URL)
			}
		})
	}
}

// TestNewRequest sends what a sender signed through a real server, whose path and query must come through as they were written.
func TestNewRequest(t *testing.T) {
	const path = "/webhooks/a%2Fb//c?x=%7e+&y=%C3%A9&&z"
	now := time.Unix(1_800_000_000, 0)
	var got *verify.Request
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = verify.NewRequest(r, []byte("body"), "token", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, now)
	}))
	t.Cleanup(srv.Close)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+path, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "203.0.113.7")
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("X-Forwarded-Host", "voice.example")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got.URL.String() != "https://voice.example"+path || got.ClientIP.String() != "203.0.113.7" ||
		got.Method != http.MethodPost ||
		string(got.Body) != "body" ||
		got.PathToken != "token" ||
		!got.Now.Equal(now) ||
		got.Header.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("got %+v", got)
	}
}

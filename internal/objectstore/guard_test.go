package objectstore_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
)

func openAt(t *testing.T, endpoint string, policy objectstore.Policy) (*objectstore.Bucket, error) {
	t.Helper()
	transport := objectstore.NewTransport(policy, 1)
	t.Cleanup(transport.CloseIdleConnections)
	return objectstore.New(objectstore.Config{
		Endpoint:        endpoint,
		AccessKeyID:     "key",
		SecretAccessKey: "secret",
		Bucket:          "bucket",
	}, transport)
}

// TestPolicy opens stores at endpoints that the platform allows, and does not allow, before any connection is made.
func TestPolicy(t *testing.T) {
	private := []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")}
	tests := map[string]struct {
		endpoint string
		policy   objectstore.Policy
		wantErr  string
	}{
		"a public name":             {endpoint: "https://s3.example.com"},
		"a public address":          {endpoint: "https://52.219.62.1:9000"},
		"plain http":                {endpoint: "http://s3.example.com", wantErr: "--allow-http-storage"},
		"plain http, allowed":       {endpoint: "http://s3.example.com", policy: objectstore.Policy{AllowHTTP: true}},
		"a private address":         {endpoint: "https://10.3.0.1", wantErr: "--allowed-storage-cidrs"},
		"a private address allowed": {endpoint: "https://10.3.0.1", policy: objectstore.Policy{AllowedCIDRs: private}},
		"metadata": {
			endpoint: "https://169.254.169.254",
			policy:   objectstore.Policy{AllowedCIDRs: private},
			wantErr:  "169.254.169.254",
		},
		"metadata over http": {
			endpoint: "http://[fd00:ec2::254]",
			policy:   objectstore.Policy{AllowHTTP: true},
			wantErr:  "fd00:ec2::254",
		},
		"mapped": {endpoint: "https://[::ffff:127.0.0.1]", wantErr: "--allowed-storage-cidrs"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := openAt(t, tc.endpoint, tc.policy)
			var refused *objectstore.PolicyError
			if errors.As(err, &refused) != (tc.wantErr != "") ||
				err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("got %v, want an error with %q", err, tc.wantErr)
			}
		})
	}
}

// TestSilenceReadsAlike asks addresses at which something else than S3 is, or nothing. The Tenant's author cannot
// tell which.
func TestSilenceReadsAlike(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	open := httptest.NewServer(http.NotFoundHandler())
	defer open.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	says := func(text string) string {
		return newHostile(t, func(w *hostileWriter, _ *http.Request) { w.write(text); _ = w.conn.Close() }).url
	}
	byName := func(url string) string { return strings.Replace(url, "127.0.0.1", "localhost", 1) }
	tests := map[string]struct {
		endpoint string
		policy   objectstore.Policy
	}{
		"a port that is closed": {"http://" + closed.Addr().String(), loopback},
		"a web server":          {open.URL, loopback},
		"a web page": {says("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>"),
			loopback},
		"a web server that wants a login": {says("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), loopback},
		"a web server that breaks": {says("HTTP/1.1 500 Internal Server Error\r\nContent-Length: " +
			"4\r\n\r\noops"), loopback},
		"another protocol":                {says("SSH-2.0-OpenSSH_9.2\r\n"), loopback},
		"a server that hangs up":          {says(""), loopback},
		"TLS where there is none":         {strings.Replace(open.URL, "http:", "https:", 1), loopback},
		"no TLS where there is some":      {strings.Replace(secure.URL, "https:", "http:", 1), loopback},
		"a name that does not exist":      {"http://nowhere.invalid", loopback},
		"a private address behind a name": {byName(open.URL), objectstore.Policy{AllowHTTP: true}},
		"a private address behind a name, again": {byName("http://" + closed.Addr().String()),
			objectstore.Policy{AllowHTTP: true}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := openAt(t, tc.endpoint, tc.policy)
			if err != nil {
				t.Fatal(err)
			}
			err = b.Probe(t.Context())
			var probe *objectstore.ProbeError
			if !errors.As(err, &probe) {
				t.Fatalf("got %v, want a ProbeError", err)
			}
			host := tc.endpoint[strings.Index(tc.endpoint, "//")+2:]
			want := `bucket "bucket": no S3 answer from HOST; correct spec.recordings.endpoint, or wait for the service. ` +
				`A store with a private ` +
				"address must be in the platform's storage.allowedCIDRs; the operator's log has the cause"
			if diff := cmp.Diff(want, strings.ReplaceAll(probe.Message, host, "HOST")); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			if got := resilience.Classify(err); got != resilience.Transient ||
				probe.Reason != objectstore.EndpointUnreachable {
				t.Errorf("class %v and reason %s, want transient and EndpointUnreachable", got, probe.Reason)
			}
			if detail := objectstore.Detail(err); len(detail) <= len(probe.Message) || len(detail) > 500 {
				t.Errorf("the platform's log has no cause, or too much: %q", detail)
			}
		})
	}
}

// TestRedirectsAreNotFollowed asks a store that redirects to an address of the platform's.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	for operation, ask := range operations {
		store := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusTemporaryRedirect))
		b, err := openAt(t, store.URL, loopback)
		if err != nil {
			t.Fatal(err)
		}
		if err := ask(t.Context(), b); err == nil {
			t.Errorf("%s: no error", operation)
		}
		store.Close()
	}
	if reached.Load() != 0 {
		t.Errorf("%d requests followed a redirect", reached.Load())
	}
}

// TestNoProxy verifies that the transport ignores a proxy of the environment. Such a proxy would connect to any address
// in place of the guard.
func TestNoProxy(t *testing.T) {
	if objectstore.NewTransport(objectstore.Policy{}, 1).HTTP().Proxy != nil {
		t.Error("the transport uses a proxy")
	}
}

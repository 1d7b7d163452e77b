package upload

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/netguard"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestSourceErrorsAreQuiet has hosts that a Tenant names fail in every way below HTTP. The text for the Tenant's author
// has no address of the platform, and does not tell a refused connection from a name without an address.
func TestSourceErrorsAreQuiet(t *testing.T) {
	noLeak(t)
	closed, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	proxy := "http://" + closed.Addr().String()
	mute := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hijack(w, "nonsense\r\n\r\n")
	}))
	defer mute.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hijack(w, "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 9999\r\n\r\n\xff\xfb\x90")
	}))
	defer broken.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	for name, tc := range map[string]struct {
		url, proxy, want string
	}{
		"refused":            {"http://" + closed.Addr().String(), "", "did not answer; it will be tried again"},
		"no such name":       {"http://recordings.invalid", "", "did not answer; it will be tried again"},
		"the proxy is down":  {"http://recordings.invalid", proxy, "did not answer; it will be tried again"},
		"not HTTP":           {mute.URL, "", "did not answer; it will be tried again"},
		"broke off":          {broken.URL, "", "the connection was lost"},
		"unknown authority":  {secure.URL, "", "has a certificate that is signed by an unknown authority"},
		"TLS asked for HTTP": {strings.Replace(mute.URL, "http:", "https:", 1), "", "did not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			egress, err := netguard.NewEgress(tc.proxy, nil)
			if err != nil {
				t.Fatal(err)
			}
			transport := netguard.NewTransport(loopback, egress, 4)
			defer transport.CloseIdleConnections()
			host := tc.url[strings.Index(tc.url, "//")+2:]
			source := newSource(&tenantconfig.Upload{ID: tenant}, recording.SourcePolicy{
				Hosts:        []string{host},
				AllowHTTP:    true,
				AllowedCIDRs: loopback,
			}, transport, quick(), 2*time.Second)
			_, err = read(source, tc.url+"/x.mp3", t)
			var f *fault
			if !errors.As(err, &f) || !strings.Contains(f.text, tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			rest := strings.ReplaceAll(f.text, host, "")
			for _, secret := range []string{"127.0.0.1", "dial", "tcp", "refused", "proxy", "lookup", "EOF",
				"malformed"} {
				if strings.Contains(rest, secret) {
					t.Errorf("%q says %q", f.text, secret)
				}
			}
			if f.detail == "" {
				t.Error("the log says nothing of the cause")
			}
		})
	}
}

// TestOpenBreakerIsQuiet has the same cause come from a breaker that is open.
func TestOpenBreakerIsQuiet(t *testing.T) {
	registry := quick()
	cause := &net.OpError{
		Op:   "dial",
		Net:  "tcp",
		Err:  io.EOF,
		Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 3128},
	}
	var err error
	for range 30 {
		err = registry.Do(t.Context(), tenant, dependencyExotel, func(context.Context) error {
			return requestFault("host", cause)
		})
	}
	if text := asFault(err).text; strings.Contains(text, "10.1.2.3") || strings.Contains(text, "dial") {
		t.Errorf("%q names the proxy", text)
	}
}

// hijack answers with bytes of its own, and hangs up.
func hijack(w http.ResponseWriter, answer string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_, _ = io.WriteString(conn, answer)
		_ = conn.Close()
	}
}

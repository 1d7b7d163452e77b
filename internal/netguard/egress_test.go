package netguard_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/netguard"
)

// proxy is an HTTP proxy that takes CONNECT alone, as corporate ones do for TLS. It leads every name to target.
type proxy struct {
	mu    sync.Mutex
	asked []string
}

func (p *proxy) serve(t *testing.T, target string, secure bool) *httptest.Server {
	t.Helper()
	handlerFunc := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked = append(p.asked, r.Method+" "+r.Host)
		p.mu.Unlock()
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT alone", http.StatusMethodNotAllowed)
			return
		}
		if strings.HasPrefix(r.Host, "forbidden.") {
			http.Error(w, "not on the list", http.StatusForbidden)
			return
		}
		far, err := net.Dial("tcp", target)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = far.Close() }()
		near, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = near.Close() }()
		_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n")
		go func() { _, _ = io.Copy(far, near) }()
		_, _ = io.Copy(near, far)
	})
	server := httptest.NewUnstartedServer(handlerFunc)
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}

func (p *proxy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// TestEgress asks hosts through a proxy whose own address is private. The names of .test have no address here.
func TestEgress(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "hello %s", r.Host)
	}))
	t.Cleanup(target.Close)
	_, port, _ := net.SplitHostPort(target.Listener.Addr().String())
	for name, tc := range map[string]struct {
		url       string
		noProxy   []string
		allowed   []netip.Prefix
		want      string // of the body
		wantErr   string
		wantAsked []string
	}{
		"a name": {url: "http://store.test/", want: "hello store.test", wantAsked: []string{"CONNECT store.test:80"}},
		"a public address": {
			url:       "http://52.219.62.1:9000/",
			want:      "hello 52.219.62.1:9000",
			wantAsked: []string{"CONNECT 52.219.62.1:9000"},
		},
		"a private address":          {url: "http://10.0.0.1/", wantErr: "prohibited"},
		"a metadata address":         {url: "http://169.254.169.254/", wantErr: "prohibited"},
		"NAT64 of a private address": {url: "http://[64:ff9b::a00:1]/", wantErr: "prohibited"},
		"a name of this host":        {url: "http://localhost:" + port + "/", wantErr: "prohibited"},
		"an allowed range": {
			url:       "http://10.3.0.1/",
			allowed:   []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")},
			want:      "hello 10.3.0.1",
			wantAsked: []string{"CONNECT 10.3.0.1:80"},
		},
		"without the proxy": {
			url:     "http://127.0.0.1:" + port + "/",
			noProxy: []string{"127.0.0.0/8"},
			allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			want:    "hello 127.0.0.1:" + port,
		},
		"without the proxy, private": {url: "http://10.0.0.1/", noProxy: []string{"10.0.0.0/8"}, wantErr: "prohibited"},
		"refused by the proxy": {
			url:       "http://forbidden.test/",
			wantErr:   "refused to connect to forbidden.test:80: it answered 403 Forbidden",
			wantAsked: []string{"CONNECT forbidden.test:80"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var p proxy
			server := p.serve(t, target.Listener.Addr().String(), false)
			egress, err := netguard.NewEgress(server.URL, tc.noProxy)
			if err != nil {
				t.Fatal(err)
			}
			transport := netguard.NewTransport(tc.allowed, egress, 1)
			defer transport.CloseIdleConnections()
			got, err := get(t, transport, tc.url)
			wrong := (err == nil) != (tc.wantErr == "") || (err != nil && !strings.Contains(err.Error(), tc.wantErr))
			if got != tc.want || wrong {
				t.Errorf("%q, %v; want %q, %s", got, err, tc.want, tc.wantErr)
			}
			if d := cmp.Diff(tc.wantAsked, p.requests()); d != "" {
				t.Errorf("the proxy was asked (-want +got):\n%s", d)
			}
		})
	}
}

func get(t *testing.T, transport http.RoundTripper, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// TestHostileProxy checks that a proxy which says too much, something else or nothing costs a bounded time and memory.
func TestHostileProxy(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  string
		wantErr string
	}{
		"endless header": {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), "header is too long"},
		"not HTTP":       {"220 hello\r\n\r\n", "does not speak HTTP"},
		"closes":         {"", "did not answer CONNECT"},
		"redirects":      {"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n", "302 Found"},
		"asks for a password": {"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
			"407 Proxy Authentication Required"},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = listener.Close() }()
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, tc.answer)
			}()
			egress, err := netguard.NewEgress("http://"+listener.Addr().String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = netguard.NewDialer(nil, egress).DialContext(t.Context(), "tcp", "store.test:443")
			if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("%v, want %q", err, tc.wantErr)
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		egress, err := netguard.NewEgress("http://"+listener.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := netguard.NewDialer(nil, egress).DialContext(ctx, "tcp", "store.test:443"); err == nil {
			t.Error("it is connected")
		}
	})
}

func TestNewEgress(t *testing.T) {
	for proxy, wantErr := range map[string]string{
		"":                              "",
		"http://proxy.example:3128":     "",
		"https://proxy.example":         "",
		"http://[2001:db8::1]:3128/":    "",
		"proxy.example:3128":            "is not a URL",
		"socks5://proxy.example":        "is not a URL",
		"http://":                       "is not a URL",
		"http://proxy.example/path":     "is not a URL",
		"http://u:secret@proxy.example": "has credentials",
	} {
		_, err := netguard.NewEgress(proxy, nil)
		if (err == nil) != (wantErr == "") || (err != nil && !strings.Contains(err.Error(), wantErr)) {
			t.Errorf("%q: %v, want %q", proxy, err, wantErr)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v shows the password", err)
		}
	}
}

package upload

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/netguard"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// newTestSource allows the given servers, and loopback unless allowed says otherwise.
func newTestSource(t testing.TB, allowed []netip.Prefix, hosts ...string) *source {
	t.Helper()
	transport := netguard.NewTransport(allowed, nil, 4)
	t.Cleanup(transport.CloseIdleConnections)
	cfg := &tenantconfig.Upload{ID: tenant, ExotelKey: "key", ExotelToken: "token"}
	if len(hosts) > 0 { // the first is the Tenant's own Exotel
		cfg.ExotelAPI = "http://" + hosts[0]
	}
	return newSource(cfg, recording.SourcePolicy{
		Hosts:        hosts,
		AllowHTTP:    true,
		AllowedCIDRs: allowed,
	}, transport, quick(), 300*time.Millisecond)
}

func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

func hostOf(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

func read(s *source, u string, t *testing.T) (string, error) {
	t.Helper()
	b, err := s.open(t.Context(), u)
	if err != nil {
		return "", err
	}
	defer b.close()
	data, err := io.ReadAll(b)
	return string(data), err
}

func wantFault(t *testing.T, err error, want kind, code string) *fault {
	t.Helper()
	var f *fault
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a fault with code %s", err, code)
	}
	if f.kind != want || f.code != code {
		t.Fatalf("got kind %d, code %s (%s); want kind %d, code %s", f.kind, f.code, f.text, want, code)
	}
	return f
}

// TestPrivateAddressRefused verifies that a private address is refused as a literal, through a name and through a
// redirect.
func TestPrivateAddressRefused(t *testing.T) {
	noLeak(t)
	var reached atomic.Int32
	secret := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		reached.Add(1)
		_, _ = io.WriteString(w, "internal")
	})
	_, port, _ := strings.Cut(hostOf(secret), ":")
	t.Run("literal", func(t *testing.T) {
		_, err := read(newTestSource(t, nil, hostOf(secret)), secret.URL+"/x.mp3", t)
		_ = wantFault(t, err, never, reason.SourceRefused)
	})
	t.Run("name", func(t *testing.T) { // as after DNS rebinding: the name is allowed, its address is not
		_, err := read(newTestSource(t, nil, "localhost:"+port), "http://localhost:"+port+"/x.mp3", t)
		fault := wantFault(t, err, later, reason.SourceRefused) // a wrong answer of DNS may be right the next time
		if !strings.Contains(fault.text, "private address") || !strings.Contains(fault.text, "--allowed-source-cidrs") {
			t.Errorf("%q says neither why nor what to do", fault.text)
		}
	})
	for name, to := range map[string]string{
		"redirect to an address":           secret.URL,
		"redirect to a name of it":         "http://localhost:" + port,
		"redirect to an IPv6 form of it":   "http://[::ffff:127.0.0.1]:" + port,
		"redirect to a metadata service":   "http://169.254.169.254/latest/meta-data",
		"redirect to another scheme":       "file:///etc/passwd",
		"redirect to a host not allowed":   "http://192.0.2.1/x",
		"redirect with credentials inside": strings.Replace(secret.URL, "http://", "http://u:p@", 1),
	} {
		t.Run(name, func(t *testing.T) {
			// The first hop is at 127.0.0.2, which is allowed; what it points to is not.
			server := httptest.NewUnstartedServer(
				http.HandlerFunc(
					func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) },
				),
			)
			_ = server.Listener.Close()
			var err error
			if server.Listener, err = listen("127.0.0.2:0"); err != nil {
				t.Skip("no second loopback address:", err)
			}
			server.Start()
			defer server.Close()
			only := []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
			_, err = read(
				newTestSource(
					t,
					only,
					hostOf(server),
					hostOf(secret),
					"localhost:"+port,
					"169.254.169.254",
					"[::ffff:127.0.0.1]:"+port,
				),
				server.URL+"/x.mp3", t,
			)
			want := never
			if strings.HasPrefix(to, "http://localhost") { // a wrong answer of DNS may be right the next time
				want = later
			}
			if fault := wantFault(t, err, want, reason.SourceRefused); want == later &&
				!strings.Contains(fault.text, "localhost") {
				t.Errorf("%q does not name the host", fault.text)
			}
		})
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the private server was reached %d times", n)
	}
}

// wav is the beginning of a recording.
const wav = "RIFF\x00\x00\x00\x00WAVE audio"

// TestCredentialsStayHome verifies that credentials reach only the first host, and never S3 or a signed URL.
func TestCredentialsStayHome(t *testing.T) {
	noLeak(t)
	type hop struct{ Where, Auth, Referer string }
	var (
		mu   sync.Mutex
		hops []hop
	)
	note := func(where string, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _, basic := r.BasicAuth()
		auth := ""
		if basic {
			auth = "basic"
		} else if r.Header.Get("Authorization") != "" {
			auth = "other"
		}
		hops = append(hops, hop{where, auth, r.Referer()})
	}
	var home, away *httptest.Server
	home = serve(t, func(w http.ResponseWriter, r *http.Request) {
		note("home", r)
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, "/audio?X-Token=1", http.StatusFound)
		case "/cross":
			http.Redirect(w, r, away.URL+"/audio", http.StatusFound)
		case "/there-and-back":
			http.Redirect(w, r, away.URL+"/back", http.StatusFound)
		case "/signed-by-redirect":
			http.Redirect(w, r, "/audio?X-Amz-Signature=abc", http.StatusFound)
		default:
			_, _ = io.WriteString(w, wav)
		}
	})
	away = serve(t, func(w http.ResponseWriter, r *http.Request) {
		note("away", r)
		if r.URL.Path == "/back" {
			http.Redirect(w, r, home.URL+"/audio", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, wav)
	})
	tests := map[string]struct {
		path string
		want []hop
	}{
		"plain":                     {"/audio", []hop{{"home", "basic", ""}}},
		"signed":                    {"/audio?X-Amz-Signature=abc", []hop{{"home", "", ""}}},
		"signed the old way":        {"/audio?AWSAccessKeyId=a&Signature=abc", []hop{{"home", "", ""}}},
		"redirect at home":          {"/same", []hop{{"home", "basic", ""}, {"home", "basic", ""}}},
		"redirect to a signed URL":  {"/signed-by-redirect", []hop{{"home", "basic", ""}, {"home", "", ""}}},
		"signed for Google":         {"/audio?x-goog-signature=abc", []hop{{"home", "", ""}}},
		"signed for Azure":          {"/audio?sv=1&sig=abc", []hop{{"home", "", ""}}},
		"signed behind a semicolon": {"/audio?a=b;X-Amz-Signature=abc", []hop{{"home", "", ""}}},
		"redirect to another host":  {"/cross", []hop{{"home", "basic", ""}, {"away", "", ""}}},
		"redirect there and back": {
			"/there-and-back",
			[]hop{{"home", "basic", ""}, {"away", "", ""}, {"home", "", ""}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			hops = nil
			source := newTestSource(t, loopback, hostOf(home), hostOf(away))
			if got, err := read(source, home.URL+tc.path, t); err != nil || got != wav {
				t.Fatalf("read %q, %v", got, err)
			}
			if d := cmp.Diff(tc.want, hops); d != "" {
				t.Errorf("hops (-want +got):\n%s", d)
			}
		})
	}
	elsewhere := newTestSource(
		t, loopback, "exotel.example", hostOf(home),
	) // the list allows home, which is not Exotel's
	hops = nil
	if _, err := read(elsewhere, home.URL+"/audio", t); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]hop{{"home", "", ""}}, hops); d != "" {
		t.Errorf("a host of the list that is not Exotel's (-want +got):\n%s", d)
	}
}

// TestTakesCredentials decides by the URL alone.
func TestTakesCredentials(t *testing.T) {
	for raw, want := range map[string]bool{
		"https://recordings.exotel.com/a.mp3":                    true,
		"https://recordings.exotel.in/a.mp3":                     true,
		"http://recordings.exotel.com/a.mp3":                     false,
		"https://recordings.exotel.com/a.mp3?X-Goog-Signature=a": false,
		"https://recordings.exotel.com.evil.example/a.mp3":       false,
		"https://s3-ap-south-1.amazonaws.com/a.mp3":              false,
		"https://amazonaws.com.exotel.com/a.mp3":                 true,
		"https://storage.googleapis.com/a.mp3":                   false,
		"http://api.example:8080/a.mp3":                          true,
		"http://API.example:8080/a.mp3":                          true,
		"http://api.example:8080/a.mp3?sig=a":                    false,
		"http://api.example/a.mp3":                               false,
		"https://api.example:8080/a.mp3":                         false,
		"http://api.example:8080@evil.example/a.mp3":             false,
	} {
		address, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := newTestSource(t, nil, "api.example:8080").takesCredentials(address); got != want {
			t.Errorf("takesCredentials(%s) = %v", raw, got)
		}
	}
}

// TestFaultsQuoteLittle asks a source that puts its own words into the error of net/http. The fault becomes a row and a
// status, and its detail a part of a line of the log.
func TestFaultsQuoteLittle(t *testing.T) {
	noLeak(t)
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + strings.Repeat("x", 50_000) + "\r\n\r\n")
		_ = rw.Flush()
		_ = conn.Close()
	})
	_, err := read(newTestSource(t, loopback, hostOf(server)), server.URL+"/x.mp3", t)
	fault := wantFault(t, err, later, reason.SourceUnavailable)
	if len(fault.text+fault.detail) > 500 || !strings.Contains(fault.detail, "encoding") {
		t.Errorf("the fault has %d bytes: %.300q, %.300q", len(fault.text+fault.detail), fault.text, fault.detail)
	}
}

func TestRedirectsBounded(t *testing.T) {
	noLeak(t)
	var asked atomic.Int32
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		http.Redirect(w, r, fmt.Sprintf("/%d", n), http.StatusFound)
	})
	_, err := read(newTestSource(t, loopback, hostOf(server)), server.URL+"/0", t)
	_ = wantFault(t, err, never, reason.SourceRefused)
	if n := asked.Load(); n != maxRedirects+1 {
		t.Errorf("asked %d times, want %d", n, maxRedirects+1)
	}
}

func TestAnswers(t *testing.T) {
	noLeak(t)
	const denied = `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`
	tests := map[string]struct {
		answer   http.HandlerFunc
		wantKind kind
		wantCode string
	}{
		"403 of S3": {answer(403, "application/xml", denied), later, reason.SourceNotReady},
		"403 expired": {
			answer(
				403,
				"application/xml",
				`<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>`,
			),
			never,
			reason.SourceExpired,
		},
		"403 of Exotel":   {answer(403, "text/html", "no"), later, reason.SourceCredentialsRefused},
		"400":             {answer(400, "text/plain", ""), never, reason.SourceRefused},
		"204":             {answer(204, "", ""), later, reason.SourceNotReady},
		"500":             {answer(500, "", ""), later, reason.SourceUnavailable},
		"JSON":            {answer(200, "application/json", `{}`), later, reason.SourceNotReady},
		"HTML said audio": {answer(200, "audio/mpeg", `<!DOCTYPE html><html>`), later, reason.SourceNotReady},
		"empty chunked": {
			func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
			later,
			reason.SourceNotReady,
		},
		"28 bytes of text":  {answer(200, "text/plain", "Recording is being processed"), later, reason.SourceNotAudio},
		"text said audio":   {answer(200, "audio/mpeg", "Recording is being processed"), later, reason.SourceNotAudio},
		"a picture":         {answer(200, "image/png", "\x89PNG\r\n\x1a\n"), later, reason.SourceNotAudio},
		"encoded":           {encoded, later, reason.SourceBroken},
		"no end to be seen": {untilClose, later, reason.SourceBroken},
		"stalls":            {stalls, later, reason.SourceBroken},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := serve(t, tc.answer)
			_, err := read(newTestSource(t, loopback, hostOf(server)), server.URL+"/x.mp3?X-Amz-Signature=hidden", t)
			if fault := wantFault(t, err, tc.wantKind, tc.wantCode); strings.Contains(fault.text, "hidden") {
				t.Errorf("%q shows the signature", fault.text)
			}
		})
	}
	t.Run("429 for long", func(t *testing.T) {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		begun := time.Now()
		_, err := read(newTestSource(t, loopback, hostOf(server)), server.URL+"/x.mp3", t)
		if fault := wantFault(t, err, later, reason.SourceUnavailable); fault.wait != 10*time.Minute {
			t.Errorf("wait %s, want 10m", fault.wait)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it waited %s with a slot in hand", took)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		server := serve(t, nil)
		server.Close()
		_, err := read(newTestSource(t, loopback, hostOf(server)), server.URL+"/x.mp3?X-Amz-Signature=hidden", t)
		if fault := wantFault(t, err, later, reason.SourceUnavailable); strings.Contains(fault.text, "hidden") {
			t.Errorf("%q shows the signature", fault.text)
		}
	})
}

func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func encoded(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = io.WriteString(w, "whatever")
}

// untilClose sends a body that ends when the connection does.
func untilClose(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nConnection: close\r\n\r\nRIFF")
	_ = conn.Close()
}

func stalls(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "10000")
	_, _ = io.WriteString(w, "RIFF")
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// TestRedirectsWithinExotel checks the hops that are allowed by default, which of them get credentials, and that
// plain http
// to Exotel becomes https.
func TestRedirectsWithinExotel(t *testing.T) {
	const credentials, amazon = " credentials", "s3.ap-south-1.amazonaws.com"
	for raw, want := range map[string]string{
		"https://recordings.exotel.in/a":                  "https://recordings.exotel.in/a" + credentials,
		"http://recordings.exotel.com/a":                  "https://recordings.exotel.com/a" + credentials,
		"https://exotelrecordings.s3.amazonaws.com/a":     "https://exotelrecordings.s3.amazonaws.com/a",
		"http://s3.amazonaws.com/exotelrecordings/a":      "https://s3.amazonaws.com/exotelrecordings/a",
		"http://s3.amazonaws.com/exotel-mum1-recordings/": "https://s3.amazonaws.com/exotel-mum1-recordings/",
		"http://exotelrecordings." + amazon + "/a":        "https://exotelrecordings." + amazon + "/a",
		"https://evil." + amazon + "/exotelrecordings/a":  "",
		"https://" + amazon + "/evil/a":                   "",
		"https://" + amazon + "/exotelrecordings/../evil": "",
		"https://" + amazon + "/exotelrecordings/%2E%2e/": "",
		"https://exotelrecordings." + amazon + ".evil/a":  "",
		"https://recordings.exotel.com.evil.example/a":    "",
		"http://other.example/a":                          "",
	} {
		cfg := &tenantconfig.Upload{ID: tenant, ExotelKey: "key", ExotelToken: "token"}
		source := newSource(cfg, recording.SourcePolicy{Hosts: tenantconfig.DefaultSourceHosts}, http.DefaultTransport,
			quick(), time.Second)
		hop := httptest.NewRequest(http.MethodGet, raw, nil)
		hop.Header.Set("Authorization", "Basic x")
		first := httptest.NewRequest(http.MethodGet, "https://"+hop.URL.Host, nil)
		got := ""
		if err := source.checkRedirect(hop, []*http.Request{first}); err == nil {
			got = hop.URL.String()
			if source.takesCredentials(hop.URL) {
				got += credentials
			}
			if (hop.Header.Get("Authorization") != "") != source.takesCredentials(hop.URL) {
				t.Errorf("%s: the hop has Authorization %q", raw, hop.Header.Get("Authorization"))
			}
		}
		if got != want {
			t.Errorf("a redirect to %s leads to %q, want %q", raw, got, want)
		}
	}
}

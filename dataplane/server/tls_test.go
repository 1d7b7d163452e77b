package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/testkit/certtest"
)

// pair is a certificate with a serial number of its own, and its key, in PEM.
func pair(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	certPEM, keyPEM := certtest.Pair(t, serial)
	return []byte(certPEM), []byte(keyPEM)
}

// writeFile replaces a file at once, as a mounted Secret's is: nobody sees half of it.
func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func TestTLSFilesAtStart(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, 1)
	_, other := pair(t, 2)
	path := func(name string, text []byte) string {
		p := filepath.Join(dir, name)
		writeFile(t, p, text)
		return p
	}
	certFile := path("cert", cert)
	keyFile := path("key", key)
	for name, tc := range map[string]struct{ cert, key, want string }{
		"no key":                 {certFile, "", "name both files, or neither"},
		"no certificate":         {"", keyFile, "name both files, or neither"},
		"a missing one":          {filepath.Join(dir, "none"), keyFile, "read the certificate"},
		"a missing key":          {certFile, filepath.Join(dir, "none"), "read the key"},
		"another's key":          {certFile, path("other", other), "do not match"},
		"no PEM":                 {path("text", []byte("text")), keyFile, "do not match"},
		"one for the other":      {keyFile, certFile, "do not match"},
		"neither, which is good": {"", "", ""},
		"good":                   {certFile, keyFile, ""},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			_, err := Options{TLSCertFile: tc.cert, TLSKeyFile: tc.key, Log: quiet()}.certificates()
			if (err != nil) != (tc.want != "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if tc.want != "" {
				options := testOptions(t, http.NotFoundHandler())
				options.TLSCertFile = tc.cert
				options.TLSKeyFile = tc.key
				if err := Run(t.Context(), options); err == nil {
					t.Error("it runs all the same")
				}
			}
		})
	}
}

// journal is a log that may be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.b.String(), text)
}

// secured is a server that speaks TLS with a pair in two files.
type secured struct {
	Options
	dir string
	log *journal
}

func newSecured(t *testing.T, change ...func(*Options)) *secured {
	t.Helper()
	s := &secured{dir: t.TempDir(), log: &journal{}}
	s.Options = testOptions(
		t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }),
	)
	s.TLSCertFile, s.TLSKeyFile, s.recheck = filepath.Join(s.dir, "tls.crt"), filepath.Join(
		s.dir, "tls.key",
	), 10*time.Millisecond
	s.Log = slog.New(slog.NewTextHandler(s.log, nil))
	for _, f := range change {
		f(&s.Options)
	}
	cert, key := pair(t, 1)
	writeFile(t, s.TLSCertFile, cert)
	writeFile(t, s.TLSKeyFile, key)
	return s
}

// serial of the certificate that a new connection gets.
func (s *secured) serial(t *testing.T, config *tls.Config) (int64, error) {
	t.Helper()
	config.InsecureSkipVerify = true //nolint:gosec // it is about which certificate, not about whose
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", s.Listen, config)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

// traffic asks over one connection until it is stopped. Any failure, and any other certificate than the first, is an error.
func (s *secured) traffic(t *testing.T, http2 bool) (stop func() error) {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		MaxConnsPerHost:   1,
		ForceAttemptHTTP2: http2,
	} //nolint:gosec // as above
	end := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		defer transport.CloseIdleConnections()
		for {
			if err := ask(transport, "https://"+s.Listen); err != nil {
				done <- err
				return
			}
			select {
			case <-end:
				done <- nil
				return
			default:
			}
		}
	}()
	return func() error { close(end); return <-done }
}

func ask(transport *http.Transport, url string) error {
	resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "ok" {
		return errors.Join(err, errors.New("answered "+string(b)))
	}
	if serial := resp.TLS.PeerCertificates[0].SerialNumber.Int64(); serial != 1 {
		return errors.New("the connection has changed")
	}
	return nil
}

// TestTLSRotation verifies that a new pair serves new connections and does not disturb open ones. A broken pair is only
// logged.
func TestTLSRotation(t *testing.T) {
	defer goleak.VerifyNone(t)
	secured := newSecured(t)
	stop, end := running(t, secured.Options)
	one := secured.traffic(t, false)
	two := secured.traffic(t, true)
	is := func(want int64) bool { got, err := secured.serial(t, &tls.Config{}); return err == nil && got == want }
	if !is(1) {
		t.Fatal("it does not serve the first pair")
	}
	cert, key := pair(t, 2)
	writeFile(t, secured.TLSKeyFile, key) // for a moment the files do not match
	soon.Holds(t, "half a pair is reported", func() bool { return secured.log.count("cannot be used") == 1 })
	if !is(1) {
		t.Error("half a pair is in force")
	}
	writeFile(t, secured.TLSCertFile, cert)
	soon.Holds(t, "the second certificate is in force", func() bool { return is(2) })
	writeFile(t, secured.TLSCertFile, []byte("no certificate"))
	soon.Holds(t, "a broken certificate is reported", func() bool { return secured.log.count("cannot be used") == 2 })
	if err := os.Remove(secured.TLSKeyFile); err != nil {
		t.Fatal(err)
	}
	soon.Holds(t, "a removed key is reported", func() bool { return secured.log.count("cannot be used") == 3 })
	if !is(2) {
		t.Error("a broken pair is in force")
	}
	writeFile(t, secured.TLSKeyFile, key)
	writeFile(t, secured.TLSCertFile, cert)
	soon.Holds(t, "the pair that is back is reported", func() bool { return secured.log.count("is in force") == 2 })
	if err := errors.Join(one(), two()); err != nil {
		t.Errorf("a connection that was there: %v", err)
	}
	if stop(); secured.log.count("PRIVATE") > 0 {
		t.Error("the log has a key")
	}
	if err := <-end; err != nil {
		t.Error(err)
	}
}

// TestTLSTroubleIsToldOnce verifies that an unusable certificate is logged once until it is usable again.
func TestTLSTroubleIsToldOnce(t *testing.T) {
	secured := newSecured(t)
	certificates, err := secured.certificates()
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(secured.TLSCertFile)
	if err != nil {
		t.Fatal(err)
	}
	told := ""
	for round := range 2 {
		if err := os.Remove(secured.TLSCertFile); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			told = certificates.check(told)
		}
		writeFile(t, secured.TLSCertFile, good)
		if told = certificates.check(told); told != "" || secured.log.count("cannot be used") != round+1 ||
			secured.log.count("is in force") != 0 {
			t.Errorf("round %d: told %q, the log: %s", round, told, secured.log.b.String())
		}
	}
}

// TestTLSVersions verifies that the server refuses TLS before 1.2 and requests without TLS.
func TestTLSVersions(t *testing.T) {
	secured := newSecured(t)
	stop, end := running(t, secured.Options)
	for version, wantErr := range map[uint16]bool{
		tls.VersionTLS10: true,
		tls.VersionTLS11: true,
		tls.VersionTLS12: false,
		tls.VersionTLS13: false,
	} {
		if _, err := secured.serial(t, &tls.Config{MinVersion: version, MaxVersion: version}); (err != nil) != wantErr {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	if code, body := get(t, "http://"+secured.Listen); code == http.StatusOK || strings.Contains(body, "ok") {
		t.Errorf("without TLS: %d %s", code, body)
	}
	if code, _ := get(t, "http://"+secured.InternalListen+"/healthz"); code != http.StatusOK {
		t.Errorf("the probes speak TLS too: %d", code)
	}
	stop()
	if err := <-end; err != nil {
		t.Error(err)
	}
}

// TestTLSMakesRoom verifies that an idle connection makes room also under TLS.
func TestTLSMakesRoom(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			secured := newSecured(t, func(o *Options) { o.MaxConns = 1 })
			stop, end := running(t, secured.Options)
			for range 3 {
				transport := &http.Transport{
					TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
					ForceAttemptHTTP2: http2,
				} //nolint:gosec // as above
				defer transport.CloseIdleConnections()
				if err := ask(transport, "https://"+secured.Listen); err != nil {
					t.Error(err)
				}
			}
			stop()
			if err := <-end; err != nil {
				t.Error(err)
			}
		})
	}
}

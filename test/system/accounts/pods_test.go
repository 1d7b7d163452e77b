package accounts

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/certtest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestTestRoutes checks that the routes that exercise the frame do not exist in production, with any token, and need
// the one token in development, if there is one.
func TestTestRoutes(t *testing.T) {
	t.Parallel()
	const token = "the-testers-token"
	development := []string{"--mode=development"}
	set := []string{"DEV_TEST_TOKEN=" + token}
	platform := newPlatform(t, setup{})
	for name, tc := range map[string]struct {
		args, env []string
		want      map[string]int // by what is sent as the token
	}{
		"production":                  {want: map[string]int{"": 404, token: 404}},
		"production with a token":     {env: set, want: map[string]int{"": 404, token: 404, token + "x": 404}},
		"development without a token": {args: development, want: map[string]int{"": 403, token: 403}},
		"development with an empty token": {
			args: development,
			env:  []string{"DEV_TEST_TOKEN="},
			want: map[string]int{"": 403, token: 403},
		},
		"development with a token": {
			args: development,
			env:  set,
			want: map[string]int{"": 401, token: 200, token + "x": 401},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := platform.addPod(t, setup{args: tc.args, env: tc.env})
			for bearer, want := range tc.want {
				platform.do(t, request{method: "GET", path: "/api/test/ping", bearer: bearer, pod: pod}).want(t, want)
				platform.testPanic(t, pod, want, bearer)
			}
			document := platform.do(t, request{method: "GET", path: "/openapi.json", pod: pod}).want(t, 200).body
			if told := jsonAt(document, "paths", "/api/test/ping") != nil; told != (tc.args != nil) {
				t.Errorf("the document tells of the route: %t", told)
			}
		})
	}
}

// testPanic verifies that a panic is answered with a 500 and the request's id, and that the pod stays ready.
func (p *platform) testPanic(t *testing.T, pod *accountsPod, ping int, bearer string) {
	t.Helper()
	answer := p.do(t, request{method: "GET", path: "/api/test/panic", bearer: bearer, pod: pod})
	if ping != 200 {
		answer.want(t, ping)
		return
	}
	answer.want(t, 500, "internal")
	if id := answer.header.Get("X-Request-Id"); id == "" || jsonAt(answer.body, "requestId") != id {
		t.Errorf("the panic of %q is answered %s", id, answer.body)
	}
	if !pod.Ready() {
		t.Error("the pod is not ready after a panic")
	}
}

// TestMonitoring checks that the internal port answers anybody, and the public port only the operator's token, which
// may be replaced.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	const path, first, second = "/api/monitoring/status", "first-token-of-all", "second-token-of-all"
	tokenFile := file(t, first+"\n")
	platform := newPlatform(t, setup{})
	without := platform.pods[0]
	with := platform.addPod(t, setup{args: []string{"--monitoring-token-file=" + tokenFile}})
	ask := func(pod *accountsPod, bearer string) answer {
		return platform.do(t, request{method: "GET", path: path, bearer: bearer, tenant: "-", pod: pod})
	}
	for _, pod := range []*accountsPod{with, without} {
		code, body := calytest.Fetch("http://" + pod.Internal + path)
		if code != 200 || jsonAt(body, "tenantConfigs", "withAccounts") != 2.0 ||
			jsonAt(body, "mail", "enabled") != true {
			t.Errorf("the internal port answers %d %s", code, body)
		}
	}
	for _, bearer := range []string{"", first} {
		ask(without, bearer).want(t, 404, "not_found")
	}
	ask(with, "").want(t, 401, "authentication")
	ask(with, second).want(t, 401, "invalid_token")
	ask(with, first).want(t, 200)
	replace(t, tokenFile, second+"\n")
	eventually.Within(5*time.Second).Holds(t, "the new token is accepted", func() bool {
		return ask(with, second).status == 200
	})
	ask(with, first).want(t, 401, "invalid_token")
	if err := os.Remove(tokenFile); err != nil {
		t.Fatal(err)
	}
	eventually.Within(5*time.Second).Holds(t, "without a token the page is not found", func() bool {
		return ask(with, second).status == 404
	})
}

// replace puts another file in the place of one, as a mounted Secret is replaced.
func replace(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// TestTLSReload verifies that a pod with TLS files serves the newest certificate, and keeps the open connections.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile := filepath.Join(dir, "tls.crt")
	keyFile := filepath.Join(dir, "tls.key")
	write := func() *x509.CertPool {
		cert, key, pool := newCertificate(t)
		replace(t, keyFile, key)
		replace(t, certFile, cert)
		return pool
	}
	first := write()
	platform := newPlatform(t, setup{args: []string{"--tls-cert-file=" + certFile, "--tls-key-file=" + keyFile}})
	// ask dials a new connection unless it is given a client.
	ask := func(trusted *x509.CertPool) (*http.Client, error) {
		client := &http.Client{
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}},
			Timeout:   10 * time.Second,
		}
		t.Cleanup(client.CloseIdleConnections)
		return client, askTLS(t, client, platform.pods[0].Public)
	}
	client, err := ask(first)
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := calytest.Fetch("http://" + platform.pods[0].Public + "/openapi.json"); code == 200 {
		t.Error("the pod answers in clear")
	}
	second := write()
	eventually.Within(10*time.Second).Holds(t, "the new certificate is shown", func() bool {
		_, err := ask(second)
		return err == nil
	})
	if _, err := ask(first); err == nil {
		t.Error("the old certificate is still shown")
	}
	if err := askTLS(t, client, platform.pods[0].Public); err != nil {
		t.Errorf("a connection of before: %v", err)
	}
}

// askTLS wants an answer with the header that keeps browsers from coming in clear.
func askTLS(t *testing.T, client *http.Client, address string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/openapi.json", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil { // else the connection is not used again
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("over TLS it is answered %d %v", resp.StatusCode, resp.Header)
	}
	return nil
}

// newCertificate is one of 127.0.0.1, in PEM, and who trusts it.
func newCertificate(t *testing.T) (cert, key string, trusted *x509.CertPool) {
	t.Helper()
	cert, key = certtest.Pair(t, time.Now().UnixNano())
	trusted = x509.NewCertPool()
	trusted.AppendCertsFromPEM([]byte(cert))
	return cert, key, trusted
}

package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { calytest.Main(m, main) }

func TestExitStatus(t *testing.T) {
	away := "CALY_DATABASE_URL=postgres://u:topsecret@" + calytest.FreeAddress(t) + "/db?sslmode=disable"
	for name, tc := range map[string]struct {
		env, args []string
		want      int
		says      string
	}{
		"good":                  {nil, []string{"version"}, 0, ""},
		"unknown command":       {nil, []string{"nonsense"}, 64, `unknown command "nonsense" for "caly"`},
		"unknown flag":          {nil, []string{"migrate", "up", "--nonsense"}, 64, "unknown flag: --nonsense"},
		"environment":           {[]string{"CALY_MAX_UPLOAD_PODS=many"}, []string{"operator"}, 64, "CALY_MAX_UPLOAD_PODS cannot be read as a value of --max-upload-pods (int)"},
		"database away":         {[]string{away}, []string{"migrate", "up"}, 1, "connection refused"},
		"upload without config": {nil, []string{"upload", "--config=/nowhere/config.json"}, 64, "the pod must mount the tenant's Secret there"},
	} {
		t.Run(name, func(t *testing.T) {
			p := calytest.Start(t, tc.env, tc.args...)
			code, said := p.End(), p.Errs()
			if code != tc.want || strings.Count(said, "\n") > 1 || strings.Contains(said, "topsecret") {
				t.Errorf("ends with %d and %q, want %d and one line", code, said, tc.want)
			}
			if tc.says != "" && (!strings.HasPrefix(said, "caly: ") || !strings.Contains(said, tc.says)) {
				t.Errorf("it says %q, want %q", said, tc.says)
			}
		})
	}
}

// servingDataPlane starts a data plane that knows the tenant acme/support.
func servingDataPlane(t *testing.T, pg *pgtest.Server) (p *calytest.Process, public, internal string) {
	t.Helper()
	d := calytest.NewDataPlane(t, pg)
	p = d.Run()
	return p, d.Public, d.Internal
}

// TestDataPlaneDrains : after SIGTERM a webhook that is half sent is taken to its end, answered 200 and kept.
func TestDataPlaneDrains(t *testing.T) {
	pg := pgtest.New(t)
	p, public, internal := servingDataPlane(t, pg)
	const path = "/webhooks/exotel/acme/support/status"
	fields := exotelsim.Call{SID: "c1"}.Answered()
	if status, _, err := (exotelsim.Sender{Secret: calytest.SigningSecret}).Send(t.Context(), "http://"+public+path, fields, exotelsim.Form); err != nil {
		t.Fatalf("before the signal: %d, %v", status, err)
	}
	c, half := halfSent(t, public, path)
	p.Terminate()
	eventually.Holds(t, "the data plane reports that it drains", func() bool {
		code, body := calytest.Fetch("http://" + internal + "/readyz")
		return code == http.StatusServiceUnavailable && bytes.Contains(body, []byte("draining"))
	})
	_, _ = io.WriteString(c, half)
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if answer, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
		t.Errorf("the webhook under way is answered %q, %v", answer, err)
	}
	if code := p.End(); code != 0 {
		t.Errorf("it ends with %d: %s", code, p.Errs())
	}
	if n := events(t, pg); n != 2 {
		t.Errorf("%d events are kept, want 2", n)
	}
	if said := p.Printed(); strings.Contains(said, calytest.SigningSecret) || strings.Contains(said, "caly-test@") || strings.Contains(said, "panic") {
		t.Errorf("it says %s", said)
	}
}

// TestDataPlaneWithoutDatabase stops PostgreSQL. All pods have the same one: they stay ready and answer 503, instead of
// leaving senders without a pod that takes their connection.
func TestDataPlaneWithoutDatabase(t *testing.T) {
	pg := pgtest.New(t)
	_, public, internal := servingDataPlane(t, pg)
	send := func(sid string) (int, error) {
		sender, call := exotelsim.Sender{Secret: calytest.SigningSecret}, exotelsim.Call{SID: sid}
		target := "http://" + public + "/webhooks/exotel/acme/support/status"
		status, _, err := sender.Send(t.Context(), target, call.Answered(), exotelsim.Form)
		return status, err
	}
	metrics := func() string { _, body := calytest.Fetch("http://" + internal + "/metrics"); return string(body) }
	if status, err := send("c1"); status != http.StatusOK || !strings.Contains(metrics(), "caly_database_up 1") {
		t.Fatalf("with a database: %d, %v", status, err)
	}
	pg.StopFast(t)
	for i := range 3 {
		if status, err := send(fmt.Sprint("lost", i)); status != http.StatusServiceUnavailable {
			t.Errorf("without a database: %d, %v", status, err)
		}
		if code, body := calytest.Fetch("http://" + internal + "/readyz"); code != http.StatusOK {
			t.Errorf("without a database: not ready: %s", body)
		}
		time.Sleep(time.Second)
	}
	if !strings.Contains(metrics(), "caly_database_up 0") {
		t.Error("the metric does not tell that the database is unreachable")
	}
	_, body := calytest.Fetch("http://" + internal + "/api/monitoring/status")
	if !bytes.Contains(body, []byte(`"reachable": false`)) {
		t.Errorf("the status does not tell that the database is unreachable: %s", body)
	}
	pg.Start(t)
	eventually.Holds(t, "webhooks are accepted again", func() bool {
		status, _ := send("c2")
		return status == http.StatusOK
	})
}

// TestDataPlaneWithoutConfigs starts a data plane in an empty work namespace.
func TestDataPlaneWithoutConfigs(t *testing.T) {
	ns := kubetest.Get(t).NewNamespace(t)
	d := calytest.NewDataPlane(t, pgtest.New(t))
	d.Args[1] = "--work-namespace=" + ns
	d.Start()
	answer := func(path string) (status int, retry string) {
		resp, err := http.Get("http://" + d.Public + path)
		if err != nil {
			return 0, ""
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	paths := []string{
		"/webhooks/exotel/acme/support/status?CallSid=c1",
		"/webhooks/exotel/status?CallSid=c1",
	}
	eventually.Holds(t, "it answers", func() bool { status, _ := answer(paths[0]); return status != 0 })
	for range 20 {
		for _, path := range paths {
			if status, retry := answer(path); status != 503 || retry == "" {
				t.Errorf("%s is answered %d, Retry-After %q", path, status, retry)
			}
		}
		if d.Ready() {
			t.Error("it is ready")
		}
		time.Sleep(50 * time.Millisecond)
	}
	calytest.ListConfigs(t, ns)
	d.AwaitReady()
	if status, _ := answer(paths[0]); status != http.StatusUnauthorized {
		t.Errorf("an unknown tenant is answered %d", status)
	}
}

func hmacSHA1(key string, body []byte) []byte {
	mac := hmac.New(sha1.New, []byte(key))
	_, _ = mac.Write(body) // never fails
	return mac.Sum(nil)
}

func events(t *testing.T, pg *pgtest.Server) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM call_events").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// halfSent is a connection on which all of a webhook but the half that it returns was sent.
func halfSent(t *testing.T, address, path string) (c net.Conn, half string) {
	t.Helper()
	body, contentType, err := exotelsim.Encode(exotelsim.Call{SID: "c2"}.Answered(), exotelsim.Form)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = net.Dial("tcp", address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nX-Exotel-Signature: %x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		path, contentType, hmacSHA1(calytest.SigningSecret, body), len(body), body[:len(body)/2])
	if err != nil {
		t.Fatal(err)
	}
	return c, string(body[len(body)/2:])
}

// TestSimulateServerStops : it ends with success when it is told to.
func TestSimulateServerStops(t *testing.T) {
	address := calytest.FreeAddress(t)
	p := calytest.Start(t, nil, "simulate", "server", "--listen="+address)
	eventually.Holds(t, "the server answers", func() bool {
		code, _ := calytest.Fetch("http://" + address)
		return code != 0
	})
	p.Terminate()
	if code := p.End(); code != 0 || !strings.Contains(p.Out(), "serving recordings at http://"+address) {
		t.Errorf("ends with %d, having printed %q and %q", code, p.Out(), p.Errs())
	}
}

package dataplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestDataPlaneWithoutDatabase stops PostgreSQL. All pods have the same one: they stay ready and answer 503, instead of
// leaving senders without a pod that takes their connection.
func TestDataPlaneWithoutDatabase(t *testing.T) {
	pg := pgtest.New(t)
	_, public, internal := servingDataPlane(t, pg)
	send := func(sid string) (int, error) {
		sender := exotelsim.Sender{Secret: calytest.SigningSecret}
		call := exotelsim.Call{SID: sid}
		target := "http://" + public + "/webhooks/exotel/acme/support/status"
		status, _, err := sender.Send(t.Context(), target, call.Answered(), exotelsim.Form)
		return status, err
	}
	metrics := func() string { _, body := calytest.Fetch("http://" + internal + "/metrics"); return string(body) }
	if status, err := send("c1"); status != http.StatusOK || !strings.Contains(metrics(), "caly_database_up 1") {
		t.Fatalf("with a database: %d, %v", status, err)
	}
	pg.StopFast(t)
	lost := 0
	eventually.For(3*time.Second).Stays(t, func(context.Context) error {
		lost++
		status, err := send(fmt.Sprint("lost", lost))
		code, body := calytest.Fetch("http://" + internal + "/readyz")
		if status != http.StatusServiceUnavailable || code != http.StatusOK {
			return fmt.Errorf("without a database: answered %d, %s; ready: %d %s", status, fmt.Sprint(err), code, body)
		}
		return nil
	})
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
	dataPlane := calytest.NewDataPlane(t, pgtest.New(t))
	dataPlane.Args[1] = "--work-namespace=" + ns
	dataPlane.Start()
	answer := func(path string) (status int, retry string) {
		resp, err := http.Get("http://" + dataPlane.Public + path)
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
	eventually.For(time.Second).Stays(t, func(context.Context) error {
		for _, path := range paths {
			if status, retry := answer(path); status != 503 || retry == "" {
				return fmt.Errorf("%s is answered %d, Retry-After %q", path, status, retry)
			}
		}
		if dataPlane.Ready() {
			return errors.New("it is ready")
		}
		return nil
	})
	calytest.ListConfigs(t, ns)
	dataPlane.AwaitReady()
	if status, _ := answer(paths[0]); status != http.StatusUnauthorized {
		t.Errorf("an unknown tenant is answered %d", status)
	}
}

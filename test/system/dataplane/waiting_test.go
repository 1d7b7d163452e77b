package dataplane

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestDataPlaneBeforeDatabase starts a data plane before PostgreSQL: it is alive, not ready, and answers 503 until it
// can connect. It does not exit.
func TestDataPlaneBeforeDatabase(t *testing.T) {
	pg := pgtest.New(t)
	dataPlane := calytest.NewDataPlane(t, pg)
	pg.StopFast(t)
	process := dataPlane.Start()
	alive := func() bool {
		code, _ := calytest.Fetch("http://" + dataPlane.Internal + "/healthz")
		return code == http.StatusOK
	}
	eventually.Holds(t, "it is alive", alive)
	for _, path := range []string{"/webhooks/exotel/acme/support/status", "/audio/exotel/acme/support", "/api/health"} {
		form := strings.NewReader("CallSid=c1")
		resp, err := http.Post("http://"+dataPlane.Public+path, "application/x-www-form-urlencoded", form)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s is answered %d, Retry-After %q", path, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
	code, body := calytest.Fetch("http://" + dataPlane.Internal + "/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(string(body), "PostgreSQL") {
		t.Errorf("readyz answers %d %s", code, body)
	}
	_, metrics := calytest.Fetch("http://" + dataPlane.Internal + "/metrics")
	if !strings.Contains(string(metrics), "caly_database_up 0") {
		t.Error("the metric does not report that the database is unreachable")
	}
	pg.Start(t)
	dataPlane.AwaitReady()
	sender := exotelsim.Sender{Secret: calytest.SigningSecret}
	call := exotelsim.Call{SID: "c1"}
	target := "http://" + dataPlane.Public + "/webhooks/exotel/acme/support/status"
	if status, _, err := sender.Send(t.Context(), target, call.Answered(), exotelsim.Form); status != http.StatusOK {
		t.Errorf("with a database: %d, %v", status, err)
	}
	process.Terminate()
	if code := process.End(); code != 0 {
		t.Errorf("it ends with %d", code)
	}
	checkWaited(t, process)
}

// TestOperatorBeforeDatabase does the same with the operator. It serves its metrics before and after.
func TestOperatorBeforeDatabase(t *testing.T) {
	pg := pgtest.New(t)
	pg.StopFast(t)
	probes := calytest.FreeAddress(t)
	served := calytest.FreeAddress(t)
	env := []string{"KUBECONFIG=" + calytest.Kubeconfig(t), "CALY_DATABASE_URL=" + pg.OperatorDSN}
	process := calytest.Start(
		t, env, "operator", "--health-probe-bind-address="+probes, "--metrics-bind-address="+served,
	)
	status := func(path string) int { code, _ := calytest.Fetch("http://" + probes + path); return code }
	reports := func(line string) func() bool {
		return func() bool {
			_, metrics := calytest.Fetch("http://" + served + "/metrics")
			return strings.Contains(string(metrics), line)
		}
	}
	eventually.Holds(t, "it is alive", func() bool { return status("/healthz") == http.StatusOK })
	eventually.Holds(t, "it reports that the database is unreachable", reports("caly_database_up 0"))
	if code := status("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz answers %d", code)
	}
	pg.Start(t)
	eventually.Holds(t, "it is ready", func() bool { return status("/readyz") == http.StatusOK })
	eventually.Holds(t, "it reports that the database accepts writes", reports("caly_database_up 1"))
	eventually.Holds(t, "it serves the metrics of its controllers", reports("controller_runtime_reconcile_total"))
	process.Terminate()
	if code := process.End(); code != 0 {
		t.Errorf("it ends with %d: %s", code, process.Errs())
	}
	checkWaited(t, process)
}

// TestTerminatedWhileWaiting ends pods that never reached a database, as a rollback does.
func TestTerminatedWhileWaiting(t *testing.T) {
	away := "CALY_DATABASE_URL=postgres://u:caly-test@" + calytest.FreeAddress(t) + "/db?sslmode=disable"
	for command, flag := range map[string]string{
		"operator":  "health-probe-bind-address",
		"dataplane": "internal-listen",
	} {
		t.Run(command, func(t *testing.T) {
			probes := calytest.FreeAddress(t)
			args := []string{command, "--" + flag + "=" + probes}
			if command == "operator" {
				args = append(args, "--metrics-bind-address="+calytest.FreeAddress(t))
			} else {
				args = append(args, "--listen="+calytest.FreeAddress(t))
			}
			process := calytest.Start(t, []string{away}, args...)
			eventually.Holds(t, "it is alive", func() bool {
				code, _ := calytest.Fetch("http://" + probes + "/healthz")
				return code == http.StatusOK
			})
			process.Terminate()
			if code := process.End(); code != 0 {
				t.Errorf("it ends with %d: %s", code, process.Errs())
			}
			checkWaited(t, process)
		})
	}
}

// checkWaited checks that a process said once what it waited for, without the password.
func checkWaited(t *testing.T, p *calytest.Process) {
	t.Helper()
	said := p.Errs()
	if n := strings.Count(said, "waiting for the database"); n != 1 || !strings.Contains(said, "database unavailable") {
		t.Errorf("it says %d times what it waits for: %s", n, said)
	}
	if strings.Contains(said, "caly-test") {
		t.Errorf("it says the password: %s", said)
	}
}

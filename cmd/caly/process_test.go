package main

import (
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func TestMain(m *testing.M) { calytest.Main(m, main) }

func TestExitStatus(t *testing.T) {
	away := "CALY_DATABASE_URL=postgres://u:topsecret@" + calytest.FreeAddress(t) + "/db?sslmode=disable"
	for name, tc := range map[string]struct {
		env, args []string
		want      int
		says      string
	}{
		"good":            {nil, []string{"version"}, 0, ""},
		"unknown command": {nil, []string{"nonsense"}, 64, `unknown command "nonsense" for "caly"`},
		"unknown flag":    {nil, []string{"migrate", "up", "--nonsense"}, 64, "unknown flag: --nonsense"},
		"environment": {
			[]string{"CALY_MAX_UPLOAD_PODS=many"},
			[]string{"operator"},
			64,
			"CALY_MAX_UPLOAD_PODS cannot be read as a value of --max-upload-pods (int)",
		},
		"database away": {[]string{away}, []string{"migrate", "up", "--wait=0s"}, 1, "connection refused"},
		"upload without config": {
			nil,
			[]string{"upload", "--config=/nowhere/config.json"},
			64,
			"the pod must mount the tenant's Secret there",
		},
		"negative wait": {
			[]string{away}, []string{"migrate", "up", "--wait=-1s"}, 64, "--wait must not be negative",
		},
	} {
		t.Run(name, func(t *testing.T) {
			process := calytest.Start(t, tc.env, tc.args...)
			code := process.End()
			said := process.Errs()
			if code != tc.want || strings.Count(said, "\n") > 1 || strings.Contains(said, "topsecret") {
				t.Errorf("ends with %d and %q, want %d and one line", code, said, tc.want)
			}
			if tc.says != "" && (!strings.HasPrefix(said, "caly: ") || !strings.Contains(said, tc.says)) {
				t.Errorf("it says %q, want %q", said, tc.says)
			}
		})
	}
}

// TestSimulateServerStops verifies that the server ends with status 0 after SIGTERM.
func TestSimulateServerStops(t *testing.T) {
	address := calytest.FreeAddress(t)
	process := calytest.Start(t, nil, "simulate", "server", "--listen="+address)
	eventually.Holds(t, "the server answers", func() bool {
		code, _ := calytest.Fetch("http://" + address)
		return code != 0
	})
	process.Terminate()
	if code := process.End(); code != 0 || !strings.Contains(process.Out(), "serving recordings at http://"+address) {
		t.Errorf("ends with %d, having printed %q and %q", code, process.Out(), process.Errs())
	}
}

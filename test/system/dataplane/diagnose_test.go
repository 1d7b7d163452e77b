package dataplane

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestProfilesStayInside checks that profiles are served with the flag alone, and never on the public listener.
func TestProfilesStayInside(t *testing.T) {
	pg := pgtest.New(t)
	paths := []string{"", "heap", "goroutine?debug=2", "allocs", "profile?seconds=1"}
	for flag, want := range map[string]int{"--pprof=false": http.StatusNotFound, "--pprof": http.StatusOK} {
		t.Run(flag, func(t *testing.T) {
			dataPlane := calytest.NewDataPlane(t, pg)
			dataPlane.Args = append(dataPlane.Args, flag)
			dataPlane.Run()
			for _, path := range paths {
				if code, body := calytest.Fetch("http://" + dataPlane.Internal + "/debug/pprof/" + path); code != want {
					t.Errorf("inside, %q is answered %d %.200s, want %d", path, code, body, want)
				}
			}
			for _, path := range []string{"cmdline", "trace"} {
				if code, _ := calytest.Fetch(
					"http://" + dataPlane.Internal + "/debug/pprof/" + path,
				); code != http.StatusNotFound {
					t.Errorf("inside, %q is answered %d", path, code)
				}
			}
			for _, path := range append(paths, "cmdline", "trace") {
				if code, _ := calytest.Fetch(
					"http://" + dataPlane.Public + "/debug/pprof/" + path,
				); code != http.StatusNotFound {
					t.Errorf("outside, %q is answered %d", path, code)
				}
			}
		})
	}
}

// TestLogLevelAtRunTime raises the level of a running pod and sets it back, with the command that kubectl exec runs.
func TestLogLevelAtRunTime(t *testing.T) {
	dataPlane := calytest.NewDataPlane(t, pgtest.New(t))
	process := dataPlane.Run()
	set := func(what, logged string) {
		t.Helper()
		command := calytest.Start(t, nil, "log-level", what, "--pid="+strconv.Itoa(process.PID()))
		if code := command.End(); code != 0 {
			t.Fatalf("log-level %s ends with %d: %s", what, code, command.Errs())
		}
		eventually.Holds(t, "the change is logged", func() bool { return strings.Contains(process.Errs(), logged) })
	}
	debugLines := func() int {
		calytest.Fetch("http://" + dataPlane.Public + "/nowhere")
		return strings.Count(process.Errs(), `"level":"DEBUG"`)
	}
	if n := debugLines(); n != 0 {
		t.Fatalf("%d debug lines at the start", n)
	}
	set("debug", `"newLevel":"DEBUG"`)
	eventually.Holds(t, "requests are logged", func() bool { return debugLines() > 0 })
	set("reset", `"newLevel":"INFO"`)
	before := strings.Count(process.Errs(), `"level":"DEBUG"`)
	if after := debugLines(); after != before {
		t.Errorf("after the reset there are %d debug lines more", after-before)
	}
	command := calytest.Start(t, nil, "log-level", "debug", "--pid="+strconv.Itoa(1))
	if code := command.End(); code != 1 || !strings.Contains(command.Errs(), "process 1") {
		t.Errorf("for a process that is not Caly: %d %s", code, command.Errs())
	}
}

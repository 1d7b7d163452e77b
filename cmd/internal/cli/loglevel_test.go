package cli

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestSignalsChangeTheLevel sends the process the signals that the command log-level sends.
func TestSignalsChangeTheLevel(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	changeLevel(ctx)
	send := func(s syscall.Signal, want slog.Level) {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		eventually.Holds(t, "the level is "+want.String(), func() bool {
			return level.Level() == want && NewLogger().Enabled(ctx, slog.LevelDebug) == (want == slog.LevelDebug)
		})
	}
	send(signalDebug, slog.LevelDebug)
	send(signalReset, slog.LevelInfo)
	t.Setenv("CALY_LOG_LEVEL", "debug")
	send(signalReset, slog.LevelDebug)
	t.Setenv("CALY_LOG_LEVEL", "info")
	send(signalReset, slog.LevelInfo)
}

func TestLogLevelCommand(t *testing.T) {
	for name, tc := range map[string]struct {
		args     []string
		wantCode int
		wantErr  string
	}{
		"no argument":   {nil, ExitUsage, "give one argument: debug or reset"},
		"another level": {[]string{"warn"}, ExitUsage, "give one argument: debug or reset"},
		"two":           {[]string{"debug", "reset"}, ExitUsage, "give one argument: debug or reset"},
		"not Caly":      {[]string{"debug", "--pid=1"}, 1, "process 1 is not caly or caly-upload"},
		"no process":    {[]string{"debug", "--pid=999999999"}, 1, "read the name of process 999999999"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := NewLogLevelCommand()
			cmd.SilenceErrors = true
			cmd.SilenceUsage = true
			cmd.SetArgs(tc.args)
			err := cmd.Execute()
			var exit *ExitError
			code := 1
			if errors.As(err, &exit) {
				code = exit.Code
			}
			if err == nil || code != tc.wantCode || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("%d %v, want %d %s", code, err, tc.wantCode, tc.wantErr)
			}
		})
	}
}

// TestProfilesOfUploadPods checks that an upload pod serves profiles on its metrics port with the flag alone.
func TestProfilesOfUploadPods(t *testing.T) {
	for on, want := range map[Pprof]int{false: http.StatusNotFound, true: http.StatusOK} {
		o := uploadOptions{metricsListen: calytest.FreeAddress(t), pprof: on}
		stop, err := o.serveMetrics(t.Context(), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"heap", "goroutine", "profile?seconds=1"} {
			if code, _ := calytest.Fetch("http://" + o.metricsListen + pprofPath + path); code != want {
				t.Errorf("with %v, %s is answered %d", on, path, code)
			}
		}
		stop()
	}
	if code, err := run(t.Context(), NewUploadCommand("v1.2.3"), "--pprof"); code != 64 ||
		err == nil || err.Error() != "--pprof needs --metrics-listen" {
		t.Errorf("without a port: %d %v", code, err)
	}
}

// TestProfileHandlers checks that the handlers leave out what the arguments and traces of a process show.
func TestProfileHandlers(t *testing.T) {
	mux := http.NewServeMux()
	Pprof(true).AddHandlers(mux)
	for path, want := range map[string]int{
		"":          200,
		"heap":      200,
		"goroutine": 200,
		"cmdline":   404,
		"trace":     404,
		"x":         404,
	} {
		recorder := httptest.NewRecorder()
		mux.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, pprofPath+path, nil))
		if recorder.Code != want {
			t.Errorf("%q is answered %d, want %d", path, recorder.Code, want)
		}
	}
}

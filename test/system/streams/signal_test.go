package streams

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestLiveCallOutlivesTheSignal checks that after SIGTERM a live call goes on until the grace period ends, and is then
// closed with 1001; new calls are rejected.
func TestLiveCallOutlivesTheSignal(t *testing.T) {
	server, err := agentsim.NewServer(agentsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	dataPlane := calytest.NewDataPlane(t, pgtest.New(t))
	dataPlane.WithAudio(server.URL(), 2)
	const grace = 4 * time.Second
	dataPlane.Args = append(dataPlane.Args, "--allowed-agent-cidrs=127.0.0.0/8", "--stream-grace="+grace.String())
	process := dataPlane.Run()
	address := "://" + dataPlane.Public + calytest.AudioPath
	ended := make(chan exotelsim.Report, 1)
	go func() {
		report, err := (exotelsim.Stream{
			URL:      "ws" + address,
			Audio:    exotelsim.Noise(8000),
			Duration: time.Minute,
		}).Run(t.Context())
		if err != nil {
			t.Error(err)
		}
		ended <- report
	}()
	eventually.Holds(
		t, "the call is live", func() bool { return dataPlane.Metric("caly_stream_handshake_seconds_count") == 1 },
	)
	signalled := time.Now()
	process.Terminate()
	eventually.Holds(t, "a new call is rejected", func() bool {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http"+address, nil)
		for name, value := range map[string]string{
			"Connection":            "Upgrade",
			"Upgrade":               "websocket",
			"Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key":     "AAAAAAAAAAAAAAAAAAAAAA==",
		} {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != ""
	})
	report := <-ended
	if report.Code != 1001 || time.Since(signalled) < grace || report.Received.Bytes == 0 {
		t.Errorf("it ended after %s with %d, %d bytes heard", time.Since(signalled), report.Code, report.Received.Bytes)
	}
	if code := process.End(); code != 0 {
		t.Errorf("it ends with %d: %s", code, process.Errs())
	}
	if said := process.Printed(); strings.Contains(said, calytest.AudioToken) || strings.Contains(said, "panic") {
		t.Errorf("it says %s", said)
	}
}

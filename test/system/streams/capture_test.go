package streams

import (
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
	"github.com/caly-dev/caly/internal/wav"
)

// TestCaptureOutlivesTheSignal verifies that a call captured during SIGTERM is complete in the bucket when the process
// has ended.
func TestCaptureOutlivesTheSignal(t *testing.T) {
	server, err := agentsim.NewServer(agentsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	s3 := s3test.InBucket(t)
	pg := pgtest.New(t)
	dataPlane := calytest.NewDataPlane(t, pg)
	dataPlane.WithAudio(server.URL(), 2)
	dataPlane.Change(func(tenant *tenantconfig.Tenant) {
		tenant.Audio.Capture = &tenantconfig.Capture{KeyTemplate: "{{.RecordingID}}"}
		tenant.Storage = tenanttest.Storage(s3.Server, s3.Name)
	})
	dataPlane.Args = append(dataPlane.Args, "--allowed-agent-cidrs=127.0.0.0/8", "--allow-http-storage",
		"--allowed-storage-cidrs=127.0.0.0/8", "--stream-grace=3s", "--capture-dir="+t.TempDir())
	process := dataPlane.Run()
	said := exotelsim.Noise(8000)
	ended := make(chan error, 1)
	go func() {
		_, err := (exotelsim.Stream{
			URL:      "ws://" + dataPlane.Public + calytest.AudioPath,
			Audio:    said,
			Duration: time.Minute,
		}).Run(t.Context())
		ended <- err
	}()
	eventually.Holds(
		t, "the call is live", func() bool { return dataPlane.Metric("caly_stream_handshake_seconds_count") == 1 },
	)
	process.Terminate()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if code := process.End(); code != 0 {
		t.Errorf("it ends with %d: %s", code, process.Errs())
	}
	if said := process.Printed(); strings.Contains(said, s3.SecretKey) || strings.Contains(said, "panic") {
		t.Errorf("it says %s", said)
	}
	keys := s3.Keys(t)
	if len(keys) != 1 || !strings.HasPrefix(keys[0], "acme/support/capture-") {
		t.Fatalf("the bucket has %v", keys)
	}
	file := s3.Object(t, keys[0])
	if size, ok := wav.SizeOf(file); !ok || size < 2*16000*2 || int(size) != len(file)-wav.HeaderSize {
		t.Errorf("it has %d bytes, and says %d, %v", len(file), size, ok)
	}
}

package streams

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
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
	s3 := s3test.New(t)
	bucket := s3.NewBucket(t)
	pg := pgtest.New(t)
	dataPlane := calytest.NewDataPlane(t, pg)
	dataPlane.WithAudio(server.URL(), 2)
	dataPlane.Change(func(tenant *tenantconfig.Tenant) {
		tenant.Audio.Capture = &tenantconfig.Capture{KeyTemplate: "{{.RecordingID}}"}
		tenant.Storage = &tenantconfig.Storage{
			Bucket:          bucket,
			Endpoint:        s3.Endpoint,
			Region:          s3.Region,
			AccessKeyID:     secret.Sensitive(s3.AccessKey),
			SecretAccessKey: secret.Sensitive(s3.SecretKey),
		}
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
	client, err := minio.New(
		strings.TrimPrefix(s3.Endpoint, "http://"),
		&minio.Options{Creds: credentials.NewStaticV4(s3.AccessKey, s3.SecretKey, "")},
	)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for o := range client.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		keys = append(keys, o.Key)
	}
	if len(keys) != 1 || !strings.HasPrefix(keys[0], "acme/support/capture-") {
		t.Fatalf("the bucket has %v", keys)
	}
	object, err := client.GetObject(t.Context(), bucket, keys[0], minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = object.Close() }()
	var file bytes.Buffer
	if _, err := file.ReadFrom(object); err != nil {
		t.Fatal(err)
	}
	if size, ok := wav.SizeOf(file.Bytes()); !ok || size < 2*16000*2 || int(size) != file.Len()-wav.HeaderSize {
		t.Errorf("it has %d bytes, and says %d, %v", file.Len(), size, ok)
	}
}

package dataplane

import (
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/otlptest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

// send sends a signed webhook and returns the answer's status.
func send(t testing.TB, address, body string) int {
	t.Helper()
	return sendTo(t, address, calytest.TenantID, body)
}

// sendTo sends a webhook of a tenant, which has the secret of calytest.TenantID.
func sendTo(t testing.TB, address, tenant, body string) int {
	t.Helper()
	path := "http://" + address + "/webhooks/exotel/" + tenant + "/status"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("X-Exotel-Signature", hex.EncodeToString(hmacSHA1(calytest.SigningSecret, []byte(body))))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// TestTraceToTheVerifiedObject follows a recording through the processes of a data plane and an upload pod, PostgreSQL
// and an S3 server: one trace, from the webhook to the verified object.
func TestTraceToTheVerifiedObject(t *testing.T) {
	pg := pgtest.New(t)
	s3 := s3test.New(t)
	receiver := otlptest.New(t)
	exotel, err := exotelsim.NewServer(exotelsim.Options{Key: "key", Token: "token"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(exotel.Close)
	dataPlane := calytest.NewDataPlane(t, pg)
	dataPlane.Change(func(tenant *tenantconfig.Tenant) {
		tenant.AllowedSourceHosts = []string{exotel.Addr()}
	})
	sources := []string{
		"--allow-http-sources",
		"--allowed-source-cidrs=127.0.0.0/8",
		"--trace-endpoint=" + receiver.URL,
	}
	dataPlane.Args = append(append(dataPlane.Args, sources...), "--trace-sample-ratio=1")
	dataPlane.Env = append(dataPlane.Env, "POD_NAME=dataplane-1", "POD_NAMESPACE=caly-system")
	process := dataPlane.Run()
	recordingURL := exotelsim.RecordingURL(exotel.URL(), "acme1", "c1", 50_000)
	body := "CallSid=c1&EventType=terminal&Status=completed&RecordingUrl=" + url.QueryEscape(recordingURL)
	if status := send(t, dataPlane.Public, body); status != http.StatusOK {
		t.Fatalf("the webhook is answered %d", status)
	}
	operator := storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
	config, err := tenantconfig.EncodeUpload(tenantconfig.Upload{
		Version:            tenantconfig.Version,
		ID:                 calytest.TenantID,
		ExotelKey:          "key",
		ExotelToken:        "token",
		ExotelAPI:          exotel.URL(),
		AllowedSourceHosts: []string{exotel.Addr()},
		Storage:            *tenanttest.Storage(s3, s3.NewBucket(t)),
		KeyTemplate:        "{{.CallSID}}-{{.RecordingID}}",
		DatabaseURL:        secret.Sensitive(storetest.UploadDSN(t, operator, calytest.TenantID, "upload-password")),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	upload := calytest.Start(t, nil, append([]string{
		"upload", "--config=" + file, "--idle-exit=1s", "--allow-http-storage", "--allowed-storage-cidrs=127.0.0.0/8",
	}, sources...)...)
	if code := upload.End(); code != 0 {
		t.Fatalf("the upload pod ends with %d:\n%s", code, upload.Errs())
	}
	process.Terminate()
	if code := process.End(); code != 0 {
		t.Errorf("the data plane ends with %d:\n%s", code, process.Errs())
	}
	want := `SERVER POST /webhooks/exotel/{namespace}/{tenant}/status
  PRODUCER commit recordings
    INTERNAL wait in recordings
    CONSUMER process recordings
      CLIENT download
      CLIENT PUT object
      CLIENT settle recordings
`
	if diff := cmp.Diff(want, receiver.Tree()); diff != "" {
		t.Errorf("the trace (-want +got):\n%s", diff)
	}
	webhook := receiver.Await("POST /webhooks/exotel/{namespace}/{tenant}/status")
	attempt := receiver.Await("process recordings")
	if webhook.Service != "caly-dataplane" || webhook.Resource["k8s.pod.name"] != "dataplane-1" ||
		webhook.Resource["k8s.namespace.name"] != "caly-system" || attempt.Service != "caly-upload" ||
		attempt.Trace != webhook.Trace {
		t.Errorf("the trace is %+v ... %+v", webhook, attempt)
	}
	if !strings.Contains(upload.Errs(), `"trace_id":"`+webhook.Trace+`"`) {
		t.Errorf("the log of the upload pod does not name the trace:\n%s", upload.Errs())
	}
}

// TestHangingCollectorCostsSpansAlone checks that a collector that accepts connections and never answers delays neither a
// webhook nor the end of the process, and that metrics have their exemplars.
func TestHangingCollectorCostsSpansAlone(t *testing.T) {
	collector, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = collector.Close() }()
	pg := pgtest.New(t)
	dataPlane := calytest.NewDataPlane(t, pg)
	dataPlane.Args = append(
		dataPlane.Args, "--trace-endpoint=http://"+collector.Addr().String(), "--trace-sample-ratio=1",
	)
	process := dataPlane.Run()
	const webhooks = 1200
	for n := range webhooks {
		body := "EventType=terminal&Status=completed&CallSid=c" + hex.EncodeToString([]byte{byte(n >> 8), byte(n)})
		if status := send(t, dataPlane.Public, body); status != http.StatusOK {
			t.Fatalf("webhook %d is answered %d", n, status)
		}
	}
	if got := events(t, pg); got != webhooks {
		t.Errorf("%d events are stored, want %d", got, webhooks)
	}
	// Each webhook has two spans; the queue and the batch in progress hold less than half of them.
	if dropped := dataPlane.Metric(`caly_trace_spans_total{outcome="dropped"}`); dropped < webhooks*2-1024-2*256 {
		t.Errorf("%v spans were dropped", dropped)
	}
	_, metrics := calytest.Fetch("http://"+dataPlane.Internal+"/metrics", func(r *http.Request) {
		r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	})
	if !strings.Contains(string(metrics), `trace_id="`) || !strings.HasSuffix(string(metrics), "# EOF\n") {
		t.Error("the metrics have no exemplar in OpenMetrics")
	}
	begun := time.Now()
	process.Terminate()
	if code := process.End(); code != 0 {
		t.Errorf("the data plane ends with %d:\n%s", code, process.Errs())
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("the end took %s, want the drain delay of 1 s and 2 s for spans", took)
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// simulateServer runs "caly simulate server" until the test ends, and returns its URL.
func simulateServer(t *testing.T, args ...string) string {
	t.Helper()
	address := calytest.FreeAddress(t)
	ctx, stop := context.WithCancel(context.Background())
	cmd := newRootCommand()
	cmd.SetArgs(append([]string{"simulate", "server", "--listen=" + address}, args...))
	cmd.SetOut(io.Discard)
	end := make(chan error, 1)
	go func() { end <- cmd.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-end; err != nil {
			t.Errorf("simulate server ended with %v", err)
		}
		if code, _ := calytest.Fetch("http://" + address); code != 0 {
			t.Errorf("it is still there after its end")
		}
	})
	eventually.Holds(t, "simulate server answers", func() bool {
		code, _ := calytest.Fetch("http://" + address)
		return code != 0
	})
	return "http://" + address
}

func TestSimulateServer(t *testing.T) {
	base := simulateServer(t, "--api-key-file="+write(t, "key\n"), "--api-token-file="+write(t, "token\n"))
	url := exotelsim.RecordingURL(base, "acme1", "c1", 1000)
	if code, _ := calytest.Fetch(url); code != http.StatusUnauthorized {
		t.Errorf("without credentials: %d", code)
	}
	code, body := calytest.Fetch(url, func(r *http.Request) { r.SetBasicAuth("key", "token") })
	if want := exotelsim.SHA256("/exotelrecordings/acme1/c1.mp3", 1000); code != http.StatusOK || len(body) != 1000 ||
		sum(body) != want {
		t.Errorf("with them: %d, %d bytes", code, len(body))
	}
	checkFailure(
		t, execute(t, "simulate", "server", "--listen="+strings.TrimPrefix(base, "http://")), "listen as Exotel",
	)
	checkFailure(t, execute(t, "simulate", "server", "--api-key-file=/nowhere/key"), "/nowhere/key")
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// dataPlane is the real webhook handler over a real database, for one tenant that allows recordings from one host.
func dataPlane(t *testing.T, sources string) (url string, count func(sql string) int) {
	t.Helper()
	url, count = dataPlaneOf(t, &tenantconfig.Tenant{
		ID:                 "acme/support",
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: []string{strings.TrimPrefix(sources, "http://")},
		Webhooks: &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
			Scheme:  tenantconfig.SchemeHMACSHA1,
			Secrets: []secret.Sensitive{calytest.SigningSecret},
		}},
	})
	return url + "acme/support/status", count
}

// dataPlaneOf is the same for other tenants; its URL is what stands before their ids.
func dataPlaneOf(t *testing.T, tenants ...*tenantconfig.Tenant) (url string, count func(sql string) int) {
	t.Helper()
	pg := pgtest.New(t)
	db := storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane)
	snapshot := tenantconfig.NewSnapshot(tenants...)
	handler := webhook.New(webhook.Options{
		Tenants: func() *tenantconfig.Snapshot { return snapshot },
		Store:   db,
		Sources: recording.SourcePolicy{
			AllowHTTP:    true,
			AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		},
		Log:     slog.New(slog.DiscardHandler),
		Metrics: prometheus.NewRegistry(),
	})
	t.Cleanup(handler.Close)
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return srv.URL + webhook.PathPrefix, func(sql string) int { return pg.Number(t, "SELECT count(*) FROM "+sql) }
}

func TestSimulateCall(t *testing.T) {
	base := simulateServer(t)
	for _, spelling := range []string{"mixed", "multipart", "form", "json", "query"} {
		t.Run(spelling, func(t *testing.T) {
			const calls = 5
			hook, count := dataPlane(t, base)
			ledger := filepath.Join(t.TempDir(), "ledger")
			result := execute(
				t,
				"simulate",
				"call",
				"--webhook-url="+hook,
				"--secret-file="+write(t, calytest.SigningSecret+"\n"),
				"--recordings-base-url="+base,
				"--spelling="+spelling,
				"--output="+ledger,
				"--size=1000",
				fmt.Sprint("--calls=", calls),
			)
			if want := fmt.Sprintf("%d of %d calls were accepted by %s\n", calls, calls, hook); result.err != nil ||
				result.out != want {
				t.Fatalf("%v, %q; want %q", result.err, result.out, want)
			}
			for sql, want := range map[string]int{
				"call_events": 2 * calls,
				"call_events WHERE dead_reason IS NOT NULL":        0,
				"calls WHERE state = 4 AND started_at IS NOT NULL": calls,
				"recordings": calls,
			} {
				if got := count(sql); got != want {
					t.Errorf("%d %s, want %d", got, sql, want)
				}
			}
			entries, err := readLedger(ledger)
			if err != nil || len(entries) != calls {
				t.Fatalf("the ledger has %d entries: %v", len(entries), err)
			}
			for id, e := range entries {
				if count("recordings WHERE id = '"+id+"' AND source_url = '"+e.SourceURL+"'") != 1 || e.Status != 200 ||
					e.Attempts != 1 {
					t.Errorf("%+v is not what the database has", e)
				}
				if code, body := calytest.Fetch(e.SourceURL); code != 200 || int64(len(body)) != e.Size ||
					sum(body) != e.SHA256 {
					t.Errorf("the recording of %+v: %d, %d bytes", e, code, len(body))
				}
			}
		})
	}
}

func TestSimulateCallFails(t *testing.T) {
	hook, count := dataPlane(t, "http://127.0.0.1:1")
	send := "--webhook-url=" + hook
	good := "--secret-file=" + write(t, calytest.SigningSecret)
	wrong := "--secret-file=" + write(t, "topsecret")
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"nowhere to send to": {nil, "give --tenant, or --webhook-url and --secret-file"},
		"no secret":          {[]string{send}, "give --tenant, or --webhook-url and --secret-file"},
		"no such secret":     {[]string{send, "--secret-file=/nowhere/secret"}, "/nowhere/secret"},
		"wrong secret":       {[]string{send, wrong}, "the webhook was answered 401"},
		"nobody there": {
			[]string{"--webhook-url=http://" + calytest.FreeAddress(t) + "/x", good},
			"connection refused",
		},
		"unknown event": {
			[]string{send, good, "--event=nonsense"},
			`--event "nonsense" is not one of status, passthru, leg, stream`,
		},
		"sent not even once": {[]string{send, good, "--replay=0"}, "--replay must be at least 1"},
		"unknown spelling": {
			[]string{send, good, "--spelling=nonsense"},
			`--spelling "nonsense" is not one of mixed, multipart, form, json, query`,
		},
		"fewer than no calls": {[]string{send, good, "--calls=-1"}, "cannot be negative"},
		"less than no bytes":  {[]string{send, good, "--size=-1"}, "cannot be negative"},
		"ledger in no folder": {[]string{send, good, "--calls=0", "--output=/nowhere/ledger"}, "/nowhere/ledger"},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := filepath.Join(t.TempDir(), "ledger")
			args := append([]string{"simulate", "call", "--retry-interval=1ms", "--output=" + ledger}, tc.args...)
			checkFailure(t, execute(t, args...), tc.says)
			if _, err := os.Stat(ledger); err == nil {
				t.Error("a ledger was written of calls that failed")
			}
		})
	}
	if n := count("call_events"); n != 0 {
		t.Errorf("%d events were kept", n)
	}
}

// verification is a bucket and a ledger of two recordings.
type verification struct {
	t       *testing.T
	s3      *minio.Client
	bucket  string
	args    []string
	entries []ledgerEntry
}

func newVerification(t *testing.T, s *s3test.Server) verification {
	t.Helper()
	v := verification{t: t, bucket: s.NewBucket(t)}
	var err error
	v.s3, err = minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds:  credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""),
		Region: s.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sid := range []string{"c-1", "c_2"} {
		path := "/exotelrecordings/acme1/" + sid + ".mp3"
		v.entries = append(v.entries, ledgerEntry{
			CallSID:   sid,
			Path:      path,
			SourceURL: "http://x" + path,
			Size:      5000,
			SHA256:    exotelsim.SHA256(path, 5000),
		})
	}
	ledger := filepath.Join(t.TempDir(), "ledger")
	if err := writeLedger(ledger, v.entries); err != nil {
		t.Fatal(err)
	}
	v.args = []string{
		"simulate",
		"verify",
		"--ledger=" + ledger,
		"--tenant=acme/support",
		"--endpoint=" + s.Endpoint,
		"--bucket=" + v.bucket,
		"--region=" + s.Region,
		"--access-key-file=" + write(t, s.AccessKey),
		"--secret-key-file=" + write(t, s.SecretKey),
	}
	return v
}

func (v verification) key(i int) string {
	return "acme/support/" + v.entries[i].CallSID + "-" + recording.ID(
		v.entries[i].CallSID, v.entries[i].SourceURL,
	) + ".mp3"
}

func (v verification) recording(i int) []byte {
	b, err := io.ReadAll(io.NewSectionReader(exotelsim.Audio(v.entries[i].Path), 0, v.entries[i].Size))
	if err != nil {
		v.t.Fatal(err)
	}
	return b
}

func (v verification) put(key string, data []byte) {
	v.t.Helper()
	if _, err := v.s3.PutObject(
		v.t.Context(), v.bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{},
	); err != nil {
		v.t.Fatal(err)
	}
}

func TestSimulateVerify(t *testing.T) {
	server := s3test.New(t)
	for name, tc := range map[string]struct {
		change     func(verification)
		wantOut    string
		wantErrs   string
		wantFailed bool
	}{
		"good": {func(verification) {}, "2 of 2 recordings verified\n", "", false},
		"another tenant's objects": {
			func(v verification) { v.put("acme/support2/x.mp3", []byte("x")) },
			"2 of 2 recordings verified\n",
			"",
			false,
		},
		"missing": {func(v verification) {
			if err := v.s3.RemoveObject(v.t.Context(), v.bucket, v.key(0), minio.RemoveObjectOptions{}); err != nil {
				v.t.Fatal(err)
			}
		}, "1 of 2 recordings verified\n", "the recording of call c-1 is not in the bucket", true},
		"one bit differs": {func(v verification) {
			data := v.recording(0)
			data[4000] ^= 1
			v.put(v.key(0), data)
		}, "1 of 2 recordings verified\n", "differs from its source: 5000 bytes, want 5000", true},
		"cut": {
			func(v verification) { v.put(v.key(1), v.recording(1)[:4999]) },
			"1 of 2 recordings verified\n",
			"differs from its source: 4999 bytes, want 5000",
			true,
		},
		"empty": {
			func(v verification) { v.put(v.key(1), nil) },
			"1 of 2 recordings verified\n",
			"differs from its source: 0 bytes, want 5000",
			true,
		},
		"extra": {
			func(v verification) { v.put("acme/support/c9-0123456789abcdef.mp3", []byte("x")) },
			"2 of 3 recordings verified\n",
			"is not a recording of the ledger",
			true,
		},
		"twice": {
			func(v verification) { v.put(strings.Replace(v.key(0), "c-1", "again/c-1", 1), v.recording(0)) },
			"2 of 3 recordings verified\n",
			"or is there twice",
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerification(t, server)
			for i := range v.entries {
				v.put(v.key(i), v.recording(i))
			}
			tc.change(v)
			result := execute(t, v.args...)
			if result.out != tc.wantOut || !strings.Contains(result.errs, tc.wantErrs) ||
				(result.err != nil) != tc.wantFailed {
				t.Errorf("prints %q and %q, %v", result.out, result.errs, result.err)
			}
			if tc.wantFailed {
				checkFailure(t, result, "1 differences between ledger and bucket")
			}
		})
	}
}

func TestSimulateVerifyFails(t *testing.T) {
	entry, err := json.Marshal(ledgerEntry{CallSID: "c1", SourceURL: "http://x/a.mp3"})
	if err != nil {
		t.Fatal(err)
	}
	ledger := "--ledger=" + write(t, string(entry)+"\n")
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"no ledger":         {nil, "read the ledger"},
		"garbage":           {[]string{"--ledger=" + write(t, "x\n")}, "read the ledger"},
		"empty ledger":      {[]string{"--ledger=" + write(t, "")}, "names no recording"},
		"calls without any": {[]string{"--ledger=" + write(t, `{"callSID":"c1"}`)}, "names no recording"},
		"line without an end": {
			[]string{"--ledger=" + write(t, string(entry)+"\n"+strings.Repeat("x", 1<<17))},
			"token too long",
		},
		"no endpoint": {[]string{ledger}, "--endpoint must be the URL of the store"},
		"endpoint, no scheme": {
			[]string{ledger, "--endpoint=s3.example.com"},
			"--endpoint must be the URL of the store",
		},
		"no such key": {
			[]string{ledger, "--endpoint=http://" + calytest.FreeAddress(t), "--access-key-file=/nowhere/key"},
			"/nowhere/key",
		},
		"no such secret": {
			[]string{ledger, "--endpoint=http://" + calytest.FreeAddress(t), "--secret-key-file=/nowhere/secret"},
			"/nowhere/secret",
		},
		"nobody at that place": {[]string{ledger, "--endpoint=http://" + calytest.FreeAddress(t),
			"--bucket=acme-recordings",
			"--access-key-file=" + write(t,
				"a"), "--secret-key-file=" + write(t, "topsecret")}, "list acme-recordings"},
	} {
		t.Run(name, func(t *testing.T) {
			checkFailure(
				t, execute(t, append([]string{"simulate", "verify", "--tenant=acme/support"}, tc.args...)...), tc.says,
			)
		})
	}
}

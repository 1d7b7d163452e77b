package upload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

const tenant = "acme/support"

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// rig is everything around one upload pod: a real database, a real S3 server and a stand-in for Exotel.
type rig struct {
	t      testing.TB
	db     *storetest.DB
	exotel *exotelsim.Server
	s3     *s3test.Bucket
	cfg    tenantconfig.Upload
	urls   map[string]string // by the recording's id
	o      Options
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, db: storetest.New(t), s3: s3test.InBucket(t), urls: map[string]string{}}
	var err error
	if r.exotel, err = exotelsim.NewServer(exotelsim.Options{Key: "key", Token: "token"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.exotel.Close)
	r.cfg = tenantconfig.Upload{
		Version:            tenantconfig.Version,
		ID:                 tenant,
		ExotelKey:          "key",
		ExotelToken:        "token",
		ExotelAPI:          r.exotel.URL(),
		AllowedSourceHosts: []string{r.exotel.Addr()},
		Storage:            *tenanttest.Storage(r.s3.Server, r.s3.Name),
		KeyTemplate:        "{{.CallSID}}-{{.RecordingID}}",
		DatabaseURL:        secret.Sensitive(storetest.UploadDSN(t, r.db.Operator, tenant, "upload-password")),
	}
	r.o = Options{
		Owner:            "test",
		Concurrency:      4,
		IdleExit:         200 * time.Millisecond,
		Lease:            3 * time.Second,
		AllowHTTP:        true,
		AllowedCIDRs:     loopback,
		Poll:             20 * time.Millisecond,
		FaultPause:       50 * time.Millisecond,
		SourceStall:      2 * time.Second,
		StorageStall:     5 * time.Second,
		DatabasePatience: 5 * time.Second,
	}
	r.o.Stores = objectstore.Policy{AllowHTTP: true, AllowedCIDRs: loopback}
	return r
}

// quick is a resilience that does not slow tests down.
func quick() *resilience.Registry {
	return resilience.NewRegistry(resilience.Options{
		OpenFor: 300 * time.Millisecond,
		Policy:  resilience.Policy{BaseDelay: 5 * time.Millisecond, MaxDelay: 1500 * time.Millisecond},
	}, nil)
}

// run runs a pod as the binary does.
func (r *rig) run(ctx context.Context) error {
	r.t.Helper()
	data, err := tenantconfig.EncodeUpload(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	options := r.o
	options.ConfigPath = filepath.Join(r.t.TempDir(), "config.json")
	if err := os.WriteFile(options.ConfigPath, data, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if options.Registry == nil {
		options.Registry = quick()
	}
	return Run(ctx, options)
}

// queue adds a recording of size bytes at the stand-in and returns its id and path.
func (r *rig) queue(sid string, size int64) (id, path string) {
	r.t.Helper()
	u := exotelsim.RecordingURL(r.exotel.URL(), "acme1", sid, size)
	return r.queueURL(sid, u), "/exotelrecordings/acme1/" + sid + ".mp3"
}

func (r *rig) queueURL(sid, u string) (id string) {
	r.t.Helper()
	id = recording.ID(sid, u)
	r.urls[id] = u
	if _, err := r.db.Operator.Enqueue(r.t.Context(), tenant, sid, store.NewRecording{
		ID:        id,
		SourceURL: u,
	}); err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (r *rig) recording(id string) store.Recording {
	r.t.Helper()
	k := store.RecordingKey{Tenant: tenant, ID: id}
	m, err := r.db.Operator.Recordings(r.t.Context(), []store.RecordingKey{k})
	if err != nil {
		r.t.Fatal(err)
	}
	rec, ok := m[k]
	if !ok {
		r.t.Fatalf("recording %s is nowhere", id)
	}
	return rec
}

// requeue puts an uploaded recording back as if the pod that uploaded it had died before it could say so.
func (r *rig) requeue(id string) {
	r.t.Helper()
	r.db.Exec(
		r.t,
		`UPDATE recording_history SET state = 'failed', last_error_code = 'Test', last_error = 'test', source_url = $2
		WHERE id = $1`,
		id, r.urls[id],
	) // its query was deleted after the upload
	if err := r.db.Operator.Retry(r.t.Context(), tenant, id); err != nil {
		r.t.Fatal(err)
	}
	if !r.recording(id).UploadStarted {
		r.t.Fatal("a retried recording must be looked at before it is sent again")
	}
}

func (r *rig) makeDue() {
	r.t.Helper()
	r.db.Exec(r.t, `UPDATE recordings SET available_at = now()`)
}

// wantUploaded checks the row and, independently of it, the object's bytes.
func (r *rig) wantUploaded(id, path string, size int64) {
	r.t.Helper()
	rec := r.recording(id)
	want := exotelsim.SHA256(path, size)
	if rec.State != store.StateUploaded || rec.Size != size || rec.SHA256 != want {
		r.t.Fatalf(
			"row says %s, %d bytes, SHA-256 %s (%s: %s); want uploaded, %d, %s",
			rec.State,
			rec.Size,
			rec.SHA256,
			rec.LastErrorCode,
			rec.LastError,
			size,
			want,
		)
	}
	sum := sha256.Sum256(r.s3.Object(r.t, rec.Key))
	if got := hex.EncodeToString(sum[:]); got != want {
		r.t.Errorf("object %s has SHA-256 %s, want %s", rec.Key, got, want)
	}
}

// wantNoLeftovers checks that no lease and no unfinished upload is left.
func (r *rig) wantNoLeftovers() {
	r.t.Helper()
	r.s3.WantFinished(r.t)
	backlogs, err := r.db.Operator.Backlogs(r.t.Context(), 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, b := range backlogs {
		if b.Leased > 0 {
			r.t.Errorf("%d leases are left", b.Leased)
		}
	}
}

// wantLater checks that a recording waits for another try.
func (r *rig) wantLater(id, code string, attempts int) store.Recording {
	r.t.Helper()
	rec := r.recording(id)
	got := fmt.Sprintf("%s %s %d", rec.State, rec.LastErrorCode, rec.Attempts)
	if want := fmt.Sprintf("%s %s %d", store.StatePending, code, attempts); got != want {
		r.t.Fatalf("row says %q (%s), want %q", got, rec.LastError, want)
	}
	return rec
}

// noLeak checks at the test's end, once the rig is gone, that no goroutine stayed.
func noLeak(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	// The PostgreSQL of the whole test binary stays, with the goroutines that watch over it.
	watchers := []goleak.Option{before, goleak.IgnoreAnyFunction("os/exec.(*Cmd).writerDescriptor.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait")}
	t.Cleanup(func() { goleak.VerifyNone(t, watchers...) })
}

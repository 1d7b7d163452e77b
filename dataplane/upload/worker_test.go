package upload

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// TestSource verifies that one run ends with an object equal to the source, for each fault of a source.
func TestSource(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	part := int64(objectstore.PartSize)
	tests := map[string]struct {
		size   int64
		quirks exotelsim.Quirks
	}{
		"one header of a frame":    {4, exotelsim.Quirks{}},
		"known length":             {2_000_000, exotelsim.Quirks{}},
		"unknown length, short":    {100_000, exotelsim.Quirks{NoLength: true}},
		"unknown length, in parts": {2*part + 17, exotelsim.Quirks{NoLength: true}},
		"breaks off and goes on":   {3_000_000, exotelsim.Quirks{TruncateAt: 500_000, Truncations: 3}},
		"breaks off in parts": {part + 100_000, exotelsim.Quirks{
			NoLength:    true,
			TruncateAt:  3_000_000,
			Truncations: 2,
		}},
		"breaks off within the first bytes":  {100_000, exotelsim.Quirks{TruncateAt: 100, Truncations: 1}},
		"too many requests, then fine":       {100_000, exotelsim.Quirks{TooMany: 1}},
		"slow":                               {60_000, exotelsim.Quirks{BytesPerSecond: 100_000}},
		"query with what must not be logged": {10_000, exotelsim.Quirks{}},
	}
	ids := map[string]string{}
	paths := map[string]string{}
	n := 0
	for name, tc := range tests {
		n++
		sid := fmt.Sprintf("sid%02d", n)
		rig.exotel.Set("/exotelrecordings/acme1/"+sid+".mp3", tc.quirks)
		ids[name], paths[name] = rig.queue(sid, tc.size)
	}
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			rig := *rig
			rig.t = t
			rig.wantUploaded(ids[name], paths[name], tc.size)
		})
	}
	if got := len(rig.s3.Keys(t)); got != len(tests) {
		t.Errorf("the bucket holds %d objects, want %d", got, len(tests))
	}
	rig.wantNoLeftovers()
}

// TestSourceNotYet verifies that a recording that cannot be fetched now waits, and is fetched later.
func TestSourceNotYet(t *testing.T) {
	tests := map[string]struct {
		quirks   exotelsim.Quirks
		size     int64
		wantCode string
	}{
		"not there":         {exotelsim.Quirks{NotReady: 1}, 1000, reason.SourceNotReady},
		"a page":            {exotelsim.Quirks{HTML: true}, 1000, reason.SourceNotReady},
		"empty":             {exotelsim.Quirks{}, 0, reason.SourceNotReady},
		"wrong credentials": {exotelsim.Quirks{Status: 401}, 1000, reason.SourceCredentialsRefused},
		"not admitted":      {exotelsim.Quirks{Status: 403}, 1000, reason.SourceCredentialsRefused},
		"server error":      {exotelsim.Quirks{Status: 503}, 1000, reason.SourceUnavailable},
		"changes midway": {exotelsim.Quirks{
			ChangeETag:  true,
			TruncateAt:  5000,
			Truncations: 1,
		}, 10_000, reason.SourceChanged},
		"breaks, no ranges": {exotelsim.Quirks{
			NoRange:     true,
			TruncateAt:  5000,
			Truncations: 1,
		}, 10_000, reason.SourceChanged},
		"breaks too often": {exotelsim.Quirks{TruncateAt: 1000, Truncations: 99}, 100_000, reason.SourceBroken},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			rig := newRig(t)
			id, path := rig.queue("sid1", tc.size)
			rig.exotel.Set(path, tc.quirks)
			begun := time.Now()
			if err := rig.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			rec := rig.wantLater(id, tc.wantCode, 1)
			if wait := rec.AvailableAt.Sub(begun); wait < 20*time.Second || wait > time.Minute {
				t.Errorf("due again in %s, want about half a minute", wait)
			}
			rig.wantNoLeftovers()
			if tc.size == 0 {
				return // stays empty
			}
			rig.exotel.Set(path, exotelsim.Quirks{})
			rig.makeDue()
			if err := rig.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			rig.wantUploaded(id, path, tc.size)
		})
	}
}

// TestFailed verifies that a recording that can never be uploaded fails with a reason and advice, and leaves no object.
func TestFailed(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	rig.o.MaxSize = 50_000
	ids := map[string]string{}
	ids[reason.SourceTooLarge], _ = rig.queue("big", 50_001)
	chunked, path := rig.queue("bigchunked", 50_001)
	rig.exotel.Set(path, exotelsim.Quirks{NoLength: true})
	ids[reason.SourceTooLarge+" unannounced"] = chunked
	ids[reason.SourceRefused+" foreign host"] = rig.queueURL("foreign", "http://evil.example/x.mp3")
	gone, path := rig.queue("gone", 10)
	rig.exotel.Set(path, exotelsim.Quirks{Status: 410})
	ids[reason.SourceRefused+" gone"] = gone
	late, path := rig.queue("late", 10)
	rig.exotel.Set(path, exotelsim.Quirks{Status: 404})
	ids[reason.SourceNotReady] = late
	rig.db.Exec(t,
		`UPDATE recordings SET attempts = max_attempts - 1, created_at = now() - interval '3 hours' WHERE id = $1`,
		late,
	)
	young, path := rig.queue("young", 10)
	rig.exotel.Set(path, exotelsim.Quirks{Status: 404})
	rig.db.Exec(t, `UPDATE recordings SET attempts = max_attempts + 3 WHERE id = $1`, young)
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, id := range ids {
		rec := rig.recording(id)
		if code, _, _ := strings.Cut(what, " "); rec.State != store.StateFailed || rec.LastErrorCode != code ||
			rec.LastError == "" {
			t.Errorf("%s: %s %s %q", what, rec.State, rec.LastErrorCode, rec.LastError)
		}
	}
	if rec := rig.recording(young); rec.State != store.StatePending {
		t.Errorf("a recording within its first two hours is %s", rec.State)
	}
	if keys := rig.s3.Keys(t); len(keys) != 0 {
		t.Errorf("objects %v", keys)
	}
	rig.wantNoLeftovers()
}

// TestStorageFaults verifies that the object is right in the end for each fault of the bucket's side.
func TestStorageFaults(t *testing.T) {
	isPut := func(req *http.Request) bool { return req.Method == http.MethodPut }
	tests := map[string]struct {
		size  int64
		fault func(n int32, req *http.Request) s3test.Fault // n counts PUTs from 1
		puts  int32
	}{
		"stored, answer lost": {100_000, func(n int32, req *http.Request) s3test.Fault {
			if isPut(req) && n == 1 {
				return s3test.CutAnswer
			}
			return s3test.Pass
		}, 1},
		"busy, then fine": {100_000, func(n int32, req *http.Request) s3test.Fault {
			if isPut(req) && n <= 2 {
				return s3test.Refuse
			}
			return s3test.Pass
		}, 3},
		"ETags that are not MD5": {100_000, func(int32, *http.Request) s3test.Fault { return s3test.WrongETag }, 1},
		"bytes changed on the way": {100_000, func(n int32, req *http.Request) s3test.Fault {
			if isPut(req) && n == 1 {
				return s3test.Corrupt
			}
			return s3test.Pass
		}, 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			rig := newRig(t)
			var puts atomic.Int32
			proxy := s3test.NewProxy(t, rig.s3.Server, func(req *http.Request) s3test.Fault {
				n := puts.Load()
				if isPut(req) {
					n = puts.Add(1)
				}
				return tc.fault(n, req)
			})
			rig.cfg.Endpoint = proxy.URL
			id, path := rig.queue("sid1", tc.size)
			if err := rig.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			rig.wantUploaded(id, path, tc.size)
			if n := puts.Load(); n != tc.puts {
				t.Errorf("%d PUTs, want %d", n, tc.puts)
			}
			rig.wantNoLeftovers()
		})
	}
}

// TestAlwaysCorrupt verifies that an object with wrong bytes is never reported as uploaded.
func TestAlwaysCorrupt(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	proxy := s3test.NewProxy(t, rig.s3.Server, func(req *http.Request) s3test.Fault {
		if req.Method == http.MethodPut {
			return s3test.Corrupt
		}
		return s3test.Pass
	})
	rig.cfg.Endpoint = proxy.URL
	id, path := rig.queue("sid1", 100_000)
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.wantLater(id, reason.StorageMismatch, 1)
	// The next pod finds the wrong object of this one, and replaces it.
	rig.cfg.Endpoint = rig.s3.Endpoint
	rig.makeDue()
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.wantUploaded(id, path, 100_000)
	// Had it been the last attempt, the wrong object would be gone.
	id2, _ := rig.queue("sid2", 100_000)
	rig.db.Exec(t, `UPDATE recordings SET attempts = max_attempts, created_at = now() - interval '3 hours'`)
	rig.cfg.Endpoint = proxy.URL
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rec := rig.recording(id2); rec.State != store.StateFailed || rec.LastErrorCode != reason.StorageMismatch {
		t.Errorf("%s %s, want failed", rec.State, rec.LastErrorCode)
	}
	if n := len(rig.s3.Keys(t)); n != 1 {
		t.Errorf("%d objects, want 1", n)
	}
}

// TestEarlierTry verifies that an object that an earlier pod stored without a report is not uploaded again.
func TestEarlierTry(t *testing.T) {
	for name, chunked := range map[string]bool{"one PUT": false, "parts": true} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			rig := newRig(t)
			size := int64(objectstore.PartSize + 100)
			id, path := rig.queue("sid1", size)
			rig.exotel.Set(path, exotelsim.Quirks{NoLength: chunked})
			if err := rig.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			rig.requeue(id)
			var puts atomic.Int32
			proxy := s3test.NewProxy(t, rig.s3.Server, func(req *http.Request) s3test.Fault {
				if req.Method == http.MethodPut || req.Method == http.MethodPost {
					puts.Add(1)
				}
				return s3test.Pass
			})
			rig.cfg.Endpoint = proxy.URL
			if err := rig.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			rig.wantUploaded(id, path, size)
			if n := puts.Load(); n != 0 {
				t.Errorf("%d PUTs, want none", n)
			}
		})
	}
}

// TestStorageOutage verifies that an outage of the store uses up no attempt, and that the same pod continues after it.
func TestStorageOutage(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	rig.o.FaultTries = 1000
	rig.o.IdleExit = time.Second
	// Without tries in the call itself the breaker opens soon, and what is left of the outage is the tenant's, not a recording's.
	rig.o.Registry = resilience.NewRegistry(resilience.Options{
		FailureThreshold: 1,
		OpenFor:          200 * time.Millisecond,
		Policy:           resilience.Policy{MaxAttempts: 1},
	}, nil)
	rig.s3.Stop(t)
	ids := map[string]string{}
	for i := range 6 {
		id, path := rig.queue(fmt.Sprintf("sid%d", i), 50_000)
		ids[id] = path
	}
	ended := make(chan error, 1)
	go func() { ended <- rig.run(context.Background()) }()
	eventually.Within(10*time.Second).Holds(t, "the store is tried again during the outage", func() bool {
		opened := int64(0)
		for _, counts := range rig.o.Registry.Counts() {
			opened += counts.BreakerOpened
		}
		return opened >= 2
	})
	rig.s3.Start(t)
	for range 100 {
		rig.makeDue()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			for id, path := range ids {
				rig.wantUploaded(id, path, 50_000)
			}
			rig.wantNoLeftovers()
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatal("the pod did not end")
}

// TestRunEndsAfterItsTime ends a run with a queue that is not empty. The recordings in progress are settled and no
// other is touched.
func TestRunEndsAfterItsTime(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	rig.o.Concurrency = 1
	rig.o.MaxRun = 30 * time.Millisecond
	var ids []string
	for i := range 60 {
		id, _ := rig.queue(fmt.Sprintf("sid%d", i), 100_000)
		ids = append(ids, id)
	}
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	states := map[store.RecordingState]int{}
	for _, id := range ids {
		rec := rig.recording(id)
		states[rec.State]++
		if rec.State == store.StatePending && rec.Attempts != 0 {
			t.Errorf("recording %s lost an attempt", id)
		}
	}
	if states[store.StateUploaded] == 0 || states[store.StatePending] == 0 || len(states) != 2 {
		t.Errorf("the states are %v, want some uploaded and all others pending", states)
	}
}

// TestTenantWideFaults verifies that a fault of the whole tenant uses up no attempt. The exit code tells whether a
// retry helps.
func TestTenantWideFaults(t *testing.T) {
	tests := map[string]struct {
		change   func(*rig)
		wantCode string
		wantExit int
	}{
		"no bucket":    {func(r *rig) { r.cfg.Bucket = "nobody" }, reason.BucketNotFound, ExitConfig},
		"wrong secret": {func(r *rig) { r.cfg.SecretAccessKey = "wrong" }, "StorageCredentialsRefused", ExitConfig},
		"unknown key":  {func(r *rig) { r.cfg.AccessKeyID = "nobody" }, "StorageCredentialsRefused", ExitConfig},
		"nobody listens": {func(r *rig) {
			r.cfg.Endpoint = "http://127.0.0.1:1"
			r.o.Registry = resilience.NewRegistry(resilience.Options{
				FailureThreshold: 1,
				OpenFor:          time.Minute,
				Policy:           resilience.Policy{MaxAttempts: 1},
			}, nil)
			// The first one opens the breaker and is the recording's own; the others meet it open.
			r.o.Concurrency = 1
			r.o.FaultTries = 1
		}, reason.StorageUnavailable, exitTransient},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			r := newRig(t)
			bucket := r.cfg.Bucket
			for i := range 3 {
				r.queue(fmt.Sprintf("sid%d", i), 10_000)
			}
			tc.change(r)
			err := r.run(t.Context())
			if got := ExitCode(err); got != tc.wantExit {
				t.Errorf("exit code %d (%v), want %d", got, err, tc.wantExit)
			}
			if err != nil && strings.Contains(err.Error(), r.s3.SecretKey) {
				t.Error("the error carries a secret")
			}
			burnt := 0
			for i := range 3 {
				u := exotelsim.RecordingURL(r.exotel.URL(), "acme1", fmt.Sprintf("sid%d", i), 10_000)
				rec := r.recording(recording.ID(fmt.Sprintf("sid%d", i), u))
				if burnt += rec.Attempts; rec.State != store.StatePending {
					t.Errorf("%s is %s", rec.CallSID, rec.State)
				}
				if rec.LastErrorCode != "" && rec.LastErrorCode != tc.wantCode {
					t.Errorf("code %s, want %s", rec.LastErrorCode, tc.wantCode)
				}
			}
			if burnt > 1 || (burnt == 1 && tc.wantExit == ExitConfig) {
				t.Errorf("%d attempts were burnt", burnt)
			}
			r.cfg.Bucket = bucket
			r.wantNoLeftovers()
		})
	}
}

// TestTerminated verifies that a pod that ends in the middle of a file releases everything at once.
func TestTerminated(t *testing.T) {
	const size = 12 << 20
	for name, q := range map[string]exotelsim.Quirks{"one PUT": {BytesPerSecond: 200_000}, "parts": {NoLength: true}} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			rig := newRig(t)
			var second atomic.Bool
			proxy := s3test.NewProxy(t, rig.s3.Server, func(req *http.Request) s3test.Fault {
				if req.URL.Query().Get("partNumber") == "2" {
					second.Store(true)
					return s3test.Hang
				}
				return s3test.Pass
			})
			rig.cfg.Endpoint = proxy.URL
			id, path := rig.queue("sid1", size)
			rig.exotel.Set(path, q)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- rig.run(ctx) }()
			eventually.Within(5*time.Second).Holds(t, "the middle of the file", func() bool {
				return second.Load() || !q.NoLength && rig.exotel.BytesServed() > 100_000
			})
			begun := time.Now()
			cancel()
			if err := ends(t, ended, 10*time.Second); !errors.Is(err, errTerminated) {
				t.Errorf("ended with %v, want %v", err, errTerminated)
			}
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("it took %s to end", took)
			}
			rig.wantNoLeftovers()
			if rec := rig.recording(id); rec.State != store.StatePending || rec.Attempts != 0 || !rec.UploadStarted {
				t.Errorf("row says %s after %d attempts, want pending after 0", rec.State, rec.Attempts)
			}
			rig.cfg.Endpoint = rig.s3.Endpoint
			rig.exotel.Set(path, exotelsim.Quirks{})
			if err := rig.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			rig.wantUploaded(id, path, size)
		})
	}
}

// TestDrain tells a pod to end in the middle of two files. The one that ends in time is uploaded by this pod, and the
// other one handed back; nothing new is claimed.
func TestDrain(t *testing.T) {
	const size = 300_000
	noLeak(t)
	rig := newRig(t)
	rig.o.Concurrency = 2
	rig.o.Drain = 4 * time.Second
	rig.o.Lease = time.Second // leases are renewed meanwhile
	short, shortPath := rig.queue("short", size)
	long, longPath := rig.queue("long", size)
	rig.exotel.Set(shortPath, exotelsim.Quirks{BytesPerSecond: 150_000})
	rig.exotel.Set(longPath, exotelsim.Quirks{BytesPerSecond: 10_000})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- rig.run(ctx) }()
	eventually.Within(5*time.Second).Holds(t, "both files are under way", func() bool {
		leased := rig.recording(short).State == store.StateLeased && rig.recording(long).State == store.StateLeased
		return leased && rig.exotel.BytesServed() > 20_000
	})
	next, nextPath := rig.queue("next", size)
	cancel()
	if err := ends(t, ended, 10*time.Second); !errors.Is(err, errTerminated) || ExitCode(err) != ExitTerminated {
		t.Errorf("ended with %v, want %v", err, errTerminated)
	}
	rig.wantUploaded(short, shortPath, size)
	rig.wantNoLeftovers()
	for _, id := range []string{long, next} {
		if rec := rig.recording(id); rec.State != store.StatePending || rec.Attempts != 0 {
			t.Errorf("%s is %s after %d attempts, want pending after 0", rec.CallSID, rec.State, rec.Attempts)
		}
	}
	rig.exotel.Set(longPath, exotelsim.Quirks{})
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.wantUploaded(long, longPath, size)
	rig.wantUploaded(next, nextPath, size)
}

// ends waits for a run to end and returns how.
func ends(t *testing.T, ended <-chan error, within time.Duration) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(within):
		t.Fatalf("the pod did not end within %s", within)
		return nil
	}
}

// TestLeaseLost verifies that a pod whose recording was taken by another pod stops and does not touch the row.
func TestLeaseLost(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	rig.o.Lease = 600 * time.Millisecond
	rig.exotel.SetAll(exotelsim.Quirks{BytesPerSecond: 50_000})
	id, _ := rig.queue("sid1", 10<<20)
	ended := make(chan error, 1)
	go func() { ended <- rig.run(context.Background()) }()
	eventually.Within(5*time.Second).Holds(t, "the upload to begin", func() bool {
		return rig.recording(id).UploadStarted
	})
	rig.db.Exec(t, `UPDATE recordings SET lease_owner = 'other', lease_until = now() + interval '1 hour'`)
	if err := ends(t, ended, 10*time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
	if rec := rig.recording(id); rec.State != store.StateLeased || rec.Attempts != 0 {
		t.Errorf("row says %s, %d attempts; the other's lease was touched", rec.State, rec.Attempts)
	}
}

// TestHeartbeat verifies that a transfer that takes longer than its lease keeps the lease.
func TestHeartbeat(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	rig.o.Lease = 600 * time.Millisecond
	id, path := rig.queue("sid1", 200_000)
	rig.exotel.Set(path, exotelsim.Quirks{BytesPerSecond: 100_000})
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.wantUploaded(id, path, 200_000)
	if n := rig.exotel.Requests(path); n != 1 {
		t.Errorf("fetched %d times, want once", n)
	}
}

// TestDatabaseOutage verifies that an upload survives a database outage in the middle of its file.
func TestDatabaseOutage(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	rig.o.Lease = 20 * time.Second
	rig.o.DatabasePatience = time.Minute
	id, path := rig.queue("sid1", 100_000)
	rig.exotel.Set(path, exotelsim.Quirks{BytesPerSecond: 100_000})
	ended := make(chan error, 1)
	go func() { ended <- rig.run(context.Background()) }()
	eventually.Within(5*time.Second).Holds(t, "the upload to begin", func() bool {
		return rig.recording(id).UploadStarted
	})
	rig.db.Stop(t)
	eventually.Within(10*time.Second).Holds(t, "the object is stored, and its row is not", func() bool {
		return len(rig.s3.Keys(t)) == 1
	})
	rig.db.Start(t)
	if err := ends(t, ended, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	rig.wantUploaded(id, path, 100_000)
}

// TestDatabaseStartsLater starts a pod before its database: it waits, and then uploads.
func TestDatabaseStartsLater(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	rig.o.DatabasePatience = time.Minute
	id, path := rig.queue("sid1", 10_000)
	rig.db.StopFast(t)
	ended := make(chan error, 1)
	go func() { ended <- rig.run(context.Background()) }()
	select {
	case err := <-ended:
		t.Fatalf("it does not wait: %v", err)
	case <-time.After(1500 * time.Millisecond):
	}
	rig.db.Start(t)
	if err := ends(t, ended, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	rig.wantUploaded(id, path, 10_000)
}

// TestTerminatedBeforeDatabase terminates a pod that waits for its database.
func TestTerminatedBeforeDatabase(t *testing.T) {
	noLeak(t)
	rig := newRig(t)
	rig.o.DatabasePatience = time.Minute
	rig.cfg.DatabaseURL = "postgres://u:p@127.0.0.1:1/x"
	ctx, terminate := context.WithTimeout(t.Context(), time.Second)
	defer terminate()
	if err := rig.run(ctx); ExitCode(err) != ExitTerminated {
		t.Errorf("it ends with %v", err)
	}
}

func TestConfigErrors(t *testing.T) {
	tests := map[string]struct {
		change   func(*rig)
		wantExit int
	}{
		"endpoint": {func(r *rig) { r.cfg.Endpoint = "nonsense" }, ExitConfig},
		"superuser": {func(r *rig) {
			r.cfg.DatabaseURL = secret.Sensitive(r.db.AdminDSN)
		}, ExitConfig},
		"database away": {func(r *rig) { r.cfg.DatabaseURL = "postgres://u:p@127.0.0.1:1/x" }, exitTransient},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tc.change(r)
			if err := r.run(t.Context()); ExitCode(err) != tc.wantExit {
				t.Errorf("%v: exit code %d, want %d", err, ExitCode(err), tc.wantExit)
			}
		})
	}
	var c *configError
	if err := Run(t.Context(), Options{ConfigPath: "/nowhere"}); !errors.As(err, &c) {
		t.Errorf("without a config: %v, want a ConfigError", err)
	}
}

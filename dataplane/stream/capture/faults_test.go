package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/logtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/wav"
)

// through has pods reach the bucket through a proxy.
func (r *rig) through(decide func(*http.Request) s3test.Fault) {
	r.config.Endpoint = s3test.NewProxy(r.t, r.s3.Server, decide).URL
}

// Kinds of requests.
func isBegin(q *http.Request) bool {
	return q.Method == http.MethodPost && q.URL.Query().Has("uploads")
}

func isPart(q *http.Request) bool {
	return q.Method == http.MethodPut && q.URL.Query().Has("partNumber")
}

func isComplete(q *http.Request) bool {
	return q.Method == http.MethodPost && q.URL.Query().Has("uploadId")
}

func isPut(q *http.Request) bool {
	return q.Method == http.MethodPut && !q.URL.Query().Has("partNumber")
}

func isAny(*http.Request) bool { return true }

// TestBucketFaults checks that the file is whole in the end, and that nothing hangs, for each fault of the first
// requests of a kind. The call is not affected.
func TestBucketFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		fault   s3test.Fault
		of      func(*http.Request) bool
		times   int32
		seconds int
	}{
		"refuses all for a while":           {s3test.Refuse, isAny, 4, 70},
		"refuses to begin":                  {s3test.Refuse, isBegin, 2, 70},
		"begins, and the answer is lost":    {s3test.CutAnswer, isBegin, 1, 70},
		"refuses a part":                    {s3test.Refuse, isPart, 2, 70},
		"a part's answer is lost":           {s3test.CutAnswer, isPart, 1, 70},
		"a part is changed on its way":      {s3test.Corrupt, isPart, 1, 70},
		"hangs with a part":                 {s3test.Hang, isPart, 1, 70},
		"refuses to complete":               {s3test.Refuse, isComplete, 1, 70},
		"completes, and the answer is lost": {s3test.CutAnswer, isComplete, 1, 70},
		"refuses a short file":              {s3test.Refuse, isPut, 2, 5},
		"a short file's answer is lost":     {s3test.CutAnswer, isPut, 1, 5},
		"a short file is changed":           {s3test.Corrupt, isPut, 1, 5},
		"hangs with a short file":           {s3test.Hang, isPut, 1, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newRig(t)
			var met atomic.Int32
			rig.through(func(q *http.Request) s3test.Fault {
				if tc.of(q) && met.Add(1) <= tc.times {
					return tc.fault
				}
				return s3test.Pass
			})
			pod := rig.pod("one", t.TempDir(), func(o *Options) { o.RequestWithin = 3 * time.Second })
			call := pod.call(acme, "call1")
			call.talk(time.Duration(tc.seconds) * time.Second)
			call.End()
			want := call.file(nil)
			rig.settled(call.session, row{State: "uploaded", Size: int64(len(want)), Digest: true})
			rig.same(rig.object(acme, "call1", call.session), want)
			if met.Load() < tc.times {
				t.Errorf("the fault was met %d times", met.Load())
			}
			rig.spoolEmpty(pod)
			rig.s3.WantFinished(t)
		})
	}
}

// TestHangingBucketDelaysNoOther checks that captures of a tenant reach their bucket while that of a noisy tenant
// hangs, and that the noisy tenant leaves memory to the others.
func TestHangingBucketDelaysNoOther(t *testing.T) {
	rig := newRig(t)
	var away atomic.Bool
	away.Store(true)
	rig.through(func(q *http.Request) s3test.Fault {
		switch {
		case strings.Contains(q.URL.Path, "/"+acme+"/"):
			return s3test.Hang
		case away.Load():
			return s3test.Refuse
		}
		return s3test.Pass
	})
	pod := rig.pod("one", t.TempDir(), func(o *Options) {
		o.FinishWithin = 100 * time.Millisecond
		o.RequestWithin = time.Minute
		o.StopWithin = time.Second
	})
	var quiet []*call
	for i := range 3 {
		noisy := pod.call(acme, fmt.Sprint("noisy", i))
		noisy.talk(time.Second)
		noisy.End()
		quiet = append(quiet, pod.call(globex, fmt.Sprint("quiet", i)))
		quiet[i].talk(time.Second)
		quiet[i].End()
	}
	eventually.Within(patience).Holds(rig.t, "they wait", func() bool {
		live, waiting := pod.count()
		return live == 0 && waiting == 6
	})
	eventually.Within(patience).Holds(rig.t, "the noisy bucket hangs", func() bool {
		return pod.gate.Held("acme") == 1
	})
	away.Store(false)
	for _, c := range quiet {
		rig.settled(c.session, row{State: "uploaded", Size: int64(len(c.file(nil))), Digest: true})
	}
	noisy := pod.memory.Of(acme).Share(0)
	other := pod.memory.Of(globex).Share(0)
	if !noisy.Resize(sharedMemory/2) || noisy.Resize(sharedMemory/2+1) || !other.Resize(sharedMemory/2) {
		t.Error("the noisy tenant has more than half of the memory")
	}
	noisy.Resize(0)
	other.Resize(0)
}

// TestBucketAway verifies that captures wait on the disk while the bucket is down, and are all uploaded afterwards.
func TestBucketAway(t *testing.T) {
	rig := newRig(t)
	rig.s3.Stop(t)
	pod := rig.pod("one", t.TempDir(), func(o *Options) { o.FinishWithin = 100 * time.Millisecond })
	long := pod.call(acme, "long")
	short := pod.call(globex, "short")
	short.talk(5 * time.Second)
	short.End()
	long.talk(2 * time.Minute)
	long.End()
	eventually.Within(patience).Holds(rig.t, "they wait", func() bool {
		live, waiting := pod.count()
		return live == 0 && waiting == 2
	})
	if got := counter(t, pod, "caly_captures_waiting"); got != 2 {
		t.Errorf("%v wait by the metric", got)
	}
	rig.s3.Start(t)
	rig.settled(long.session, row{State: "uploaded", Size: int64(len(long.file(nil))), Digest: true})
	rig.settled(short.session, row{State: "uploaded", Size: int64(len(short.file(nil))), Digest: true})
	rig.same(rig.object(acme, "long", long.session), long.file(nil))
	rig.same(rig.object(globex, "short", short.session), short.file(nil))
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
}

// TestBreaker verifies that a bucket with several failures in a row gets no requests for a while, from any capture of
// its tenant. Another tenant's bucket is not affected.
func TestBreaker(t *testing.T) {
	rig := newRig(t)
	var asked atomic.Int64
	var broken atomic.Bool
	broken.Store(true)
	rig.through(func(q *http.Request) s3test.Fault {
		if !strings.Contains(q.URL.Path, "/acme/") {
			return s3test.Pass
		}
		asked.Add(1)
		if broken.Load() {
			return s3test.Refuse
		}
		return s3test.Pass
	})
	pod := rig.pod("one", t.TempDir(), func(o *Options) {
		o.FinishWithin, o.Breakers = time.Millisecond, breakers(3*time.Second, o.Registerer)
	})
	var waiting []*call
	for i := range 10 {
		c := pod.call(acme, fmt.Sprintf("call%d", i))
		c.talk(5 * time.Second)
		c.End()
		waiting = append(waiting, c)
	}
	eventually.Within(patience).Holds(rig.t, "the breaker opens", func() bool {
		return pod.o.Breakers.Counts()[dependency].BreakerOpened == 1
	})
	before := asked.Load()
	other := pod.call(globex, "call")
	other.talk(5 * time.Second)
	other.End()
	rig.settled(other.session, row{State: "uploaded", Size: int64(len(other.file(nil))), Digest: true})
	if again := asked.Load() - before; again > 10 { // those that were under way
		t.Errorf("it was asked %d times more", again)
	}
	broken.Store(false)
	for _, c := range waiting {
		rig.settled(c.session, row{State: "uploaded", Size: int64(len(c.file(nil))), Digest: true})
	}
	rig.spoolEmpty(pod)
}

// TestOneBucketHangs verifies that a bucket that never answers does not delay another tenant's capture.
func TestOneBucketHangs(t *testing.T) {
	rig := newRig(t)
	rig.through(func(q *http.Request) s3test.Fault {
		if strings.Contains(q.URL.Path, "/acme/") {
			return s3test.Hang
		}
		return s3test.Pass
	})
	pod := rig.pod("one", t.TempDir(), func(o *Options) { o.StopWithin = time.Millisecond })
	call, b := pod.call(acme, "call1"), pod.call(globex, "call2")
	call.talk(time.Minute)
	b.talk(time.Minute)
	call.End()
	b.End()
	rig.settled(b.session, row{State: "uploaded", Size: int64(len(b.file(nil))), Digest: true})
	if got := rig.row(call.session); got.State != "recording" {
		t.Errorf("the other is %+v", got)
	}
}

// TestGiveUp verifies that a capture for a failing bucket fails after its time with the bucket's error, and frees the
// disk.
func TestGiveUp(t *testing.T) {
	rig := newRig(t)
	rig.through(func(q *http.Request) s3test.Fault {
		if isComplete(q) {
			return s3test.Refuse
		}
		return s3test.Pass
	})
	pod := rig.pod("one", t.TempDir(), func(o *Options) {
		o.GiveUpAfter = time.Second
		o.FinishWithin = 100 * time.Millisecond
	})
	call := pod.call(acme, "call1")
	call.talk(time.Minute)
	call.End()
	rig.settled(call.session, row{State: "failed", Code: reason.StorageFailed})
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
}

// TestUploadEndedByOthers verifies the end of a capture whose multipart upload was aborted, as a lifecycle rule does.
func TestUploadEndedByOthers(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	for name, tc := range map[string]struct {
		minutes int
		want    string
	}{"with the first part alone": {1, "uploaded"}, "with more": {2, "failed"}} {
		call := pod.call(acme, "call")
		call.talk(time.Duration(tc.minutes) * time.Minute)
		eventually.Within(patience).Holds(rig.t, "parts are in the bucket", func() bool {
			return rig.parts() == tc.minutes
		})
		list, err := rig.s3.Core.ListMultipartUploads(t.Context(), rig.s3.Name, "", "", "", "", 10)
		if err != nil || len(list.Uploads) != 1 {
			t.Fatal(list, err)
		}
		if err := rig.s3.Core.AbortMultipartUpload(
			t.Context(), rig.s3.Name, list.Uploads[0].Key, list.Uploads[0].UploadID,
		); err != nil {
			t.Fatal(err)
		}
		call.End()
		eventually.Within(patience).Holds(rig.t, "it has ended", func() bool {
			s := rig.row(call.session).State
			return s == "uploaded" || s == "failed"
		})
		got := rig.row(call.session)
		if got.State != tc.want || (tc.want == "failed") != (got.Code == reason.UploadLost) {
			t.Errorf("%s: %+v", name, got)
		}
		if tc.want == "uploaded" {
			rig.same(rig.object(acme, "call", call.session), call.file(nil))
		}
	}
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
}

// TestDatabaseAway verifies that nothing is uploaded without a row, and that all is uploaded after the database is
// back.
func TestDatabaseAway(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	rig.db.StopFast(t)
	call := pod.call(acme, "call1")
	call.talk(time.Minute)
	call.End()
	if n := rig.parts(); n != 0 {
		t.Errorf("%d parts are in the bucket", n)
	}
	rig.db.Start(t)
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(call.file(nil))), Digest: true})
	rig.same(rig.object(acme, "call1", call.session), call.file(nil))
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
}

// TestTakenOver verifies that a pod whose capture was given to another pod stops it and frees the disk.
func TestTakenOver(t *testing.T) {
	for name, ended := range map[string]bool{"while the call runs": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			if ended {
				rig.s3.Stop(t)
			}
			pod := rig.pod("one", t.TempDir(), func(o *Options) { o.FinishWithin = 100 * time.Millisecond })
			call := pod.call(acme, "call1")
			call.talk(5 * time.Second)
			eventually.Within(patience).Holds(rig.t, "it has a row", func() bool {
				return rig.row(call.session).State == "recording"
			})
			if ended {
				call.End()
			}
			rig.db.Exec(t, `UPDATE captures SET pod = 'another'`)
			if ended {
				rig.s3.Start(t)
			}
			eventually.Within(
				patience,
			).Holds(rig.t, "it is let go", func() bool { return pod.outcome(outcomeLost) == 1 })
			rig.spoolEmpty(pod)
			call.End()
			if got := rig.row(call.session); got.State != "recording" {
				t.Errorf("the row is %+v", got)
			}
		})
	}
}

// TestStop verifies that a call that ends just before its pod is uploaded. A capture that cannot be finished is
// released to another pod at once.
func TestStop(t *testing.T) {
	t.Parallel() // it mostly waits
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	call := pod.call(acme, "call1")
	call.talk(time.Minute)
	call.End()
	pod.end()
	if got := rig.row(call.session); got.State != "uploaded" {
		t.Errorf("the row is %+v", got)
	}
	tenant, _ := pod.o.Tenants().Tenant(acme)
	if capture := pod.Begin(tenant, store.NewID(), 0); capture.Tap() != nil {
		t.Error("a pod that has stopped captures")
	}

	var away atomic.Bool
	rig.through(func(q *http.Request) s3test.Fault {
		if away.Load() && !isPart(q) {
			return s3test.Hang
		}
		return s3test.Pass
	})
	two := rig.pod("two", t.TempDir(), func(o *Options) { o.StopWithin = 100 * time.Millisecond })
	d := two.call(acme, "call2")
	live := two.call(acme, "call3")
	d.talk(time.Minute)
	live.talk(time.Second)
	eventually.Within(patience).Holds(rig.t, "a part is in the bucket", func() bool { return rig.parts() == 1 })
	eventually.Within(patience).Holds(rig.t, "the other has a row", func() bool {
		return rig.row(live.session).State == "recording"
	})
	away.Store(true)
	d.End()
	two.end() // although a call has not ended
	away.Store(false)
	rig.pod("three", t.TempDir(), func(o *Options) { o.Unseen = 30 * time.Second; o.now = nil })
	eventually.Within(patience).Holds(rig.t, "another pod has ended it", func() bool {
		return rig.row(d.session).State == "uploaded"
	})
	eventually.Within(patience).Holds(rig.t, "and the other", func() bool {
		return rig.row(live.session).State == "failed"
	})
	rig.s3.WantFinished(t)
}

// TestTenantGone verifies that a capture of an unknown tenant waits for its time and then fails.
func TestTenantGone(t *testing.T) {
	rig := newRig(t)
	dir := t.TempDir()
	first := rig.pod("one", dir, func(o *Options) { o.StopWithin = time.Millisecond })
	rig.s3.Stop(t)
	call := first.call(acme, "call1")
	call.talk(time.Second)
	eventually.Within(
		patience,
	).Holds(rig.t, "it has a row", func() bool { return rig.row(call.session).State == "recording" })
	call.End()
	first.end()
	rig.s3.Start(t)
	none := tenantconfig.NewSnapshot()
	pod := rig.pod("one", dir, func(o *Options) {
		o.Tenants = func() *tenantconfig.Snapshot { return none }
		o.GiveUpAfter = time.Second
	})
	rig.settled(call.session, row{State: "failed", Code: reason.StorageFailed})
	rig.spoolEmpty(pod)
}

// TestTenantGoneAfterRenewal withdraws a tenant during a call, after its credentials were renewed and before the first
// ones expire. The capture goes to the bucket with the last ones.
func TestTenantGoneAfterRenewal(t *testing.T) {
	rig := newRig(t)
	strict := rig.strict(s3test.Rules{}, objectstore.Options{})
	valid := time.Now().Add(time.Hour)
	snapshot := func(n string) *tenantconfig.Snapshot {
		key := s3test.IssuedKey{AccessKey: "ASIA" + n, SecretKey: "secret" + n, Token: "token" + n, Expires: valid}
		strict.Issue(key)
		rig.config.Key = key.AccessKey
		rig.config.Secret = key.SecretKey
		rig.config.Token = key.Token
		return rig.config.tenants()
	}
	var tenants atomic.Pointer[tenantconfig.Snapshot]
	tenants.Store(snapshot("1"))
	pod := rig.pod("one", t.TempDir(), func(o *Options) { o.Tenants = tenants.Load })
	call := pod.call(acme, "call1")
	call.talk(shortCall)
	tenants.Store(snapshot("2"))
	eventually.Within(patience).Holds(t, "the capture knows the renewed credentials", func() bool {
		return call.tape.storage.Load().AccessKeyID.Reveal() == "ASIA2"
	})
	tenants.Store(tenantconfig.NewSnapshot())
	strict.Expire("ASIA1")
	call.End()
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(call.file(nil))), Digest: true})
}

// TestTenantNotYetKnown restarts a pod with a capture on its disk. Until the pod knows its tenants, the capture waits,
// without a warning and although it is old; then it goes to its bucket.
func TestTenantNotYetKnown(t *testing.T) {
	rig := newRig(t)
	dir := t.TempDir()
	first := rig.pod("one", dir, func(o *Options) { o.StopWithin = time.Millisecond })
	rig.s3.Stop(t)
	call := first.call(acme, "call1")
	call.talk(time.Second)
	eventually.Within(
		patience,
	).Holds(rig.t, "it has a row", func() bool { return rig.row(call.session).State == "recording" })
	call.End()
	first.end()
	rig.s3.Start(t)
	var tenants atomic.Pointer[tenantconfig.Snapshot]
	tenants.Store(tenantconfig.NewIncompleteSnapshot())
	var log logtest.Buffer
	pod := rig.pod("one", dir, func(o *Options) {
		o.Tenants = tenants.Load
		o.GiveUpAfter = time.Millisecond
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	eventually.For(time.Second).Stays(t, func(context.Context) error { // 20 sweeps
		if got := rig.row(call.session); got.State != "recording" || strings.Contains(log.String(), "level=WARN") {
			return fmt.Errorf("the row is %+v, the log %s", got, log.String())
		}
		return nil
	})
	tenants.Store(rig.config.tenants())
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(call.file(nil))), Digest: true})
	rig.spoolEmpty(pod)
}

// failing is a store whose end of captures is lost on its way back.
type failing struct {
	*store.Dataplane
	lost atomic.Int32
}

func (f *failing) FinishCapture(ctx context.Context, ref store.CaptureRef, pod string, e store.CaptureEnd) error {
	err := f.Dataplane.FinishCapture(ctx, ref, pod, e)
	if f.lost.Add(1) == 1 {
		return errors.New("the answer was lost")
	}
	return err
}

// TestEndTold verifies that an end that was stored stays as it is when its answer was lost.
func TestEndTold(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), func(o *Options) { o.Store = &failing{Dataplane: rig.db.Dataplane} })
	call := pod.call(acme, "call1")
	call.talk(time.Second)
	call.End()
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(call.file(nil))), Digest: true})
	rig.spoolEmpty(pod)
	rig.same(rig.object(acme, "call1", call.session), call.file(nil))
}

// TestBroken shows that the rest of a PUT that was cut off does not count as a capture.
func TestBroken(t *testing.T) {
	rig := newRig(t)
	session := store.NewID()
	key := acme + "/call1/capture-" + session + ".wav"
	row := store.Capture{
		CaptureRef: store.CaptureRef{Tenant: acme, ID: "0123456789abcdef"},
		Session:    session,
		CallSID:    "call1",
		Pod:        "gone",
		Bucket:     rig.s3.Name,
		Key:        key,
		CreatedAt:  time.Now(),
	}
	if err := rig.db.Dataplane.BeginCapture(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	cut := append(wav.CallHeader(8000, 8000), make([]byte, 4000)...)
	pod := rig.pod("other", t.TempDir(), func(o *Options) { o.Unseen = time.Hour })
	b, err := pod.bucket(acme, rig.s3.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), objectstore.Object{
		Key:         key,
		Body:        strings.NewReader(string(cut)),
		Size:        int64(len(cut)),
		ContentType: contentType,
	}); err != nil {
		t.Fatal(err)
	}
	row.Pod = "other"
	rig.db.Exec(t, `UPDATE captures SET pod = 'other'`)
	if err := pod.rescue(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	if got := rig.row(session); got.State != "failed" || got.Code != reason.PodLost ||
		rig.object(acme, "call1", session) != nil {
		t.Errorf("%+v", got)
	}
}

// TestDiskFull verifies that a full disk ends the capture, and that the stored part is uploaded.
func TestDiskFull(t *testing.T) {
	rig := newRig(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=7m"); errors.Is(err, syscall.EPERM) {
		t.Skip("a small disk needs the right to mount one")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	rig.s3.Stop(t)
	pod := rig.pod("one", dir, nil)
	call := pod.call(acme, "call1")
	call.talk(2 * time.Minute)
	eventually.Within(patience).Holds(rig.t, "it ended before its call", func() bool {
		code, _ := call.tape.shortened()
		return code == reason.SpoolFailed
	})
	call.End()
	rig.s3.Start(t)
	eventually.Within(
		patience,
	).Holds(rig.t, "it has ended", func() bool { return rig.row(call.session).State == "uploaded" })
	got := rig.object(acme, "call1", call.session)
	if n := len(got); n < partSize || n > 7<<20 || (n-wav.HeaderSize)%frame != 0 ||
		rig.row(call.session).Code != reason.SpoolFailed {
		t.Fatalf("the file has %d bytes, and the row is %+v", n, rig.row(call.session))
	}
	rig.same(got, call.file(wav.CallHeader(testRate, int64(len(got)-wav.HeaderSize)))[:len(got)])
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
}

// TestOwnIsNotRescued verifies that a pod with late heartbeats does not rescue its own captures.
func TestOwnIsNotRescued(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), func(o *Options) {
		o.HeartbeatEvery = time.Hour
		o.Unseen = 500 * time.Millisecond
	})
	call := pod.call(acme, "call1")
	call.talk(time.Minute)
	eventually.Within(patience).Holds(rig.t, "a part is in the bucket", func() bool { return rig.parts() == 1 })
	rig.db.Exec(t, `UPDATE captures SET last_seen_at = 'epoch'`)
	eventually.Within(patience).Holds(rig.t, "it is claimed", func() bool {
		return rig.db.Number(
			t, `SELECT count(*)::int FROM captures WHERE last_seen_at > now() - interval '1 minute'`,
		) == 1
	})
	call.talk(time.Minute)
	call.End()
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(call.file(nil))), Digest: true})
	rig.same(rig.object(acme, "call1", call.session), call.file(nil))
	rig.s3.WantFinished(t)
}

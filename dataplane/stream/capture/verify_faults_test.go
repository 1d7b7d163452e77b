package capture

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// isRead reports whether a request is for an object.
func isRead(q *http.Request) bool { return q.Method == http.MethodGet && q.URL.RawQuery == "" }

// TestReadBackFault has the first read of a part fail on its way, which says nothing about the object. It must stay.
func TestReadBackFault(t *testing.T) {
	for name, tc := range map[string]struct {
		fault    s3test.Fault
		attempts int
	}{
		"changed":                   {s3test.CorruptAnswer, 1},
		"cut":                       {s3test.CutBody, 1},
		"cut, and asked for again":  {s3test.CutBody, 3},
		"changed, retried requests": {s3test.CorruptAnswer, 3},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			strict := rig.strict(none(s3test.Rules{}), objectstore.Options{Checksum: objectstore.ChecksumNone})
			var (
				mu    sync.Mutex
				peers []string
			)
			rig.config.Endpoint = s3test.NewProxy(
				t, &s3test.Server{Endpoint: strict.URL},
				func(q *http.Request) s3test.Fault {
					mu.Lock()
					defer mu.Unlock()
					if !isRead(q) {
						return s3test.Pass
					}
					if peers = append(peers, q.RemoteAddr); len(peers) == 1 {
						return tc.fault
					}
					return s3test.Pass
				},
			).URL
			pod := rig.pod("one", t.TempDir(), func(o *Options) {
				o.Breakers = resilience.NewRegistry(resilience.Options{
					Policy: resilience.Policy{MaxAttempts: tc.attempts},
				}, nil)
			})
			call := pod.call(acme, "long")
			call.talk(threeParts)
			call.End()
			want := call.file(nil)
			rig.settled(call.session, row{State: "uploaded", Size: int64(len(want)), Digest: true})
			rig.digest(call.session, want)
			mu.Lock()
			defer mu.Unlock()
			if len(peers) != 4 || peers[0] == peers[1] {
				t.Errorf("the reads came from %v, want 4, and the second from another address than the first", peers)
			}
		})
	}
}

// endless is a store that does not write the ends of captures while it is down.
type endless struct {
	Store
	down atomic.Bool
	lost atomic.Int32
}

// FinishCapture implements Store.
func (e *endless) FinishCapture(ctx context.Context, ref store.CaptureRef, pod string, end store.CaptureEnd) error {
	if e.down.Load() {
		e.lost.Add(1)
		return context.DeadlineExceeded
	}
	return e.Store.FinishCapture(ctx, ref, pod, end)
}

// TestMismatchIsKept has the database down after an object that differs was removed. The next try, or the next process,
// has the same reason.
func TestMismatchIsKept(t *testing.T) {
	for name, restart := range map[string]bool{"the database was down": false, "the pod restarted": true} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			strict := rig.strict(none(s3test.Rules{}), objectstore.Options{Checksum: objectstore.ChecksumNone})
			rig.config.Endpoint = s3test.NewProxy(
				t, &s3test.Server{Endpoint: strict.URL}, onPart("2", 1, s3test.Corrupt),
			).URL
			db := &endless{Store: rig.db.Dataplane}
			db.down.Store(true)
			dir := t.TempDir()
			pod := rig.pod("one", dir, func(o *Options) { o.Store = db })
			call := pod.call(acme, "long")
			call.talk(threeParts)
			call.End()
			eventually.Within(patience).Holds(t, "the end was not written", func() bool { return db.lost.Load() > 0 })
			if _, found := strict.Object(keyOf(call, "long")); found {
				t.Error("the changed object is there")
			}
			if restart {
				pod.end()
				pod = rig.pod("one", dir, nil)
			}
			db.down.Store(false)
			rig.settled(call.session, row{State: "failed", Code: reason.StorageMismatch})
			rig.spoolEmpty(pod)
		})
	}
}

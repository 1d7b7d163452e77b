package capture

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// TestObjectIsShorter checks that a capture is not reported as uploaded while the bucket says that its object is
// shorter.
func TestObjectIsShorter(t *testing.T) {
	for name, tc := range map[string]struct {
		length time.Duration
	}{
		"in parts": {70 * time.Second},
		"whole":    {5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			var lies atomic.Bool
			var asked atomic.Int32
			lies.Store(true)
			rig.through(func(q *http.Request) s3test.Fault {
				if q.Method == http.MethodHead && lies.Load() {
					asked.Add(1)
					return s3test.Shorten
				}
				return s3test.Pass
			})
			pod := rig.pod("one", t.TempDir(), nil)
			call := pod.call(acme, "call1")
			call.talk(tc.length)
			call.End()
			eventually.Within(patience).Holds(rig.t, "the size is asked for twice", func() bool {
				return asked.Load() >= 2 || rig.row(call.session).State == "uploaded"
			})
			if got := rig.row(call.session); got.State != "recording" {
				t.Errorf("the row says %+v while the object is shorter, want that the capture goes on", got)
			}
			lies.Store(false)
			want := call.file(nil)
			rig.settled(call.session, row{State: "uploaded", Size: int64(len(want)), Digest: true})
			rig.same(rig.object(acme, "call1", call.session), want)
			rig.s3.WantFinished(t)
			rig.spoolEmpty(pod)
		})
	}
}

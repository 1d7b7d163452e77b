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
			r := newRig(t)
			var lies atomic.Bool
			var asked atomic.Int32
			lies.Store(true)
			r.through(func(q *http.Request) s3test.Fault {
				if q.Method == http.MethodHead && lies.Load() {
					asked.Add(1)
					return s3test.Shorten
				}
				return s3test.Pass
			})
			p := r.pod("one", t.TempDir(), nil)
			c := p.call(acme, "call1")
			c.talk(tc.length)
			c.End()
			eventually.Within(patience).Holds(r.t, "the size is asked for twice", func() bool {
				return asked.Load() >= 2 || r.row(c.session).State == "uploaded"
			})
			if got := r.row(c.session); got.State != "recording" {
				t.Errorf("the row says %+v while the object is shorter, want that the capture goes on", got)
			}
			lies.Store(false)
			want := c.file(nil)
			r.settled(c.session, row{State: "uploaded", Size: int64(len(want)), Digest: true})
			r.same(r.object(acme, "call1", c.session), want)
			r.noUploads()
			r.spoolEmpty(p)
		})
	}
}

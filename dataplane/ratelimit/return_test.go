package ratelimit

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestReturnedTriesDoNotCount checks that a try that is given back leaves room for one more, on every pod, and that no
// more tries than the limit are out at any moment.
func TestReturnedTriesDoNotCount(t *testing.T) {
	pg := pgtest.New(t)
	limits := map[Name]Limit{Login: {Requests: 6, Window: time.Hour}}
	pods := []*pod{newPod(openDB(t, pg), patient, limits), newPod(openDB(t, pg), patient, limits)}
	ctx := t.Context()
	for i := range 20 {
		p := pods[i%2]
		decision := p.Take(ctx, acme, Login, "k")
		if !decision.Allowed || decision.Remaining != 5 {
			t.Fatalf("try %d: %+v, want the first of six", i, decision)
		}
		p.Return(ctx, acme, decision, "k")
	}
	const takes = time.Millisecond // a try, so that others meet it
	var out, most, through atomic.Int32
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			decision := pods[0].Take(ctx, acme, Login, "k")
			if !decision.Allowed {
				return
			}
			through.Add(1)
			for n := out.Add(1); ; {
				old := most.Load()
				if n <= old || most.CompareAndSwap(old, n) {
					break
				}
			}
			time.Sleep(takes)
			out.Add(-1)
			pods[0].Return(ctx, acme, decision, "k")
		})
	}
	all.Wait()
	if m, n := most.Load(), through.Load(); m > 6 || n < 6 {
		t.Errorf("%d tries were out at once and %d let through, want at most and at least 6", m, n)
	}
	for i := range 7 { // all of them were returned
		if decision := pods[1].Take(ctx, acme, Login, "k"); decision.Allowed != (i < 6) {
			t.Errorf("wrong try %d: %+v", i, decision)
		}
	}
}

// TestReturnUnblocks checks that the pod that knows a key to be used up lets one more try through after a return, and
// that a decision of the pod's own is returned to the pod alone.
func TestReturnUnblocks(t *testing.T) {
	fake := newFake()
	pod := newPod(fake, time.Minute, map[Name]Limit{Login: {Requests: 1, Window: time.Hour}})
	first := pod.Take(t.Context(), acme, Login, "k")
	if decision := pod.Take(t.Context(), acme, Login, "k"); !first.Allowed || decision.Allowed {
		t.Fatalf("%+v and %+v, want one try", first, decision)
	}
	pod.Return(t.Context(), acme, first, "k")
	fake.setDown(true)
	alone := pod.Take(t.Context(), acme, Login, "k")
	if !alone.Allowed || !alone.Fallback {
		t.Fatalf("%+v, want the pod's own leave", alone)
	}
	fake.setDown(false)
	pod.Return(t.Context(), acme, alone, "k")
	pod.clock.advance(time.Second)
	kept := pod.Take(t.Context(), acme, Login, "k")
	if !kept.Allowed || kept.Fallback {
		t.Fatalf("%+v, want the database's leave", kept)
	}
	fake.setDown(true)
	pod.Return(t.Context(), acme, kept, "k")
	if decision := pod.Take(t.Context(), acme, Login, "k"); decision.Allowed {
		t.Errorf("%+v: a try that the database did not take back does not count", decision)
	}
	if pod.log.count("a right try counts against its limit") != 1 {
		t.Error("nothing is logged about it")
	}
}

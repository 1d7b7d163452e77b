package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/caly-dev/caly/internal/store"
)

// stepped is a store whose transactions end one by one. CallSID of a quiet tenant's event is the number of transactions
// that had begun when it was sent.
type stepped struct {
	end   chan struct{}
	mu    sync.Mutex
	begun int
	waits []int // of the quiet tenants' events: the transactions that began until theirs, with it
}

// IngestBatch returns when the test says so.
func (s *stepped) IngestBatch(_ context.Context, events []store.Event) ([]store.Outcome, error) {
	s.mu.Lock()
	s.begun++
	for _, e := range events {
		if e.Tenant != "noisy" {
			sent, _ := strconv.Atoi(e.CallSID)
			s.waits = append(s.waits, s.begun-sent)
		}
	}
	s.mu.Unlock()
	<-s.end
	return make([]store.Outcome, len(events)), nil
}

// p99OfQuiet returns the 99th percentile of the transactions that the events of ten quiet tenants wait for. The noisy
// tenant has this many events in progress at any time, with bodies of this length.
func p99OfQuiet(t *testing.T, workers, noise, body int) (p99 int) {
	t.Helper()
	s := &stepped{}
	synctest.Test(t, func(t *testing.T) {
		s.end = make(chan struct{})
		committer := newCommitter(s, workers, slog.New(slog.DiscardHandler), newMetrics())
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		commit := func(e store.Event) {
			if _, err := committer.commit(context.WithoutCancel(ctx), e); err != nil {
				t.Error(err)
			}
		}
		raw := make([]byte, body)
		for range noise {
			all.Go(func() {
				for ctx.Err() == nil {
					commit(store.Event{Tenant: "noisy", Raw: raw})
				}
			})
		}
		for range 200 {
			synctest.Wait()
			sent := fmt.Sprint(s.begun)
			for i := range 10 {
				all.Go(func() { commit(store.Event{Tenant: fmt.Sprint("quiet", i), CallSID: sent}) })
			}
			synctest.Wait()
			s.end <- struct{}{}
		}
		cancel()
		close(s.end)
		all.Wait()
		committer.close()
	})
	slices.Sort(s.waits)
	return s.waits[len(s.waits)*99/100]
}

// TestNoisyTenantDelaysNoOther compares the p99 of other tenants while one tenant has half of the places with their p99
// alone. It counts transactions.
func TestNoisyTenantDelaysNoOther(t *testing.T) {
	for name, tc := range map[string]struct{ workers, noise, body int }{
		"one worker":   {1, 512, 1000},
		"two workers":  {2, 512, 1000},
		"four workers": {4, 512, 1000},
		"large bodies": {2, 512, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			alone := p99OfQuiet(t, tc.workers, 0, 0)
			noisy := p99OfQuiet(t, tc.workers, tc.noise, tc.body)
			if noisy*10 > alone*12 {
				t.Errorf("p99 is %d transactions with a noisy tenant, %d alone", noisy, alone)
			}
		})
	}
}

// BenchmarkCommit sends events through the committer to a store that answers at once.
func BenchmarkCommit(b *testing.B) {
	for _, bm := range []struct{ senders, tenants int }{{1, 1}, {64, 1}, {64, 16}, {512, 1}, {512, 64}} {
		b.Run(fmt.Sprintf("senders=%d/tenants=%d", bm.senders, bm.tenants), func(b *testing.B) {
			committer := newCommitter(instant{}, 2, slog.New(slog.DiscardHandler), newMetrics())
			defer committer.close()
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			for i := range bm.senders {
				all.Go(func() {
					event := store.Event{Tenant: fmt.Sprint("acme/", i%bm.tenants)}
					for left.Add(-1) >= 0 {
						if _, err := committer.commit(b.Context(), event); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// instant is a store that answers at once.
type instant struct{}

// IngestBatch applies everything.
func (instant) IngestBatch(_ context.Context, events []store.Event) ([]store.Outcome, error) {
	return make([]store.Outcome, len(events)), nil
}

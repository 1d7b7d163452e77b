package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/store"
)

// scripted is a store that notes each transaction, and answers as told once it may.
type scripted struct {
	mu     sync.Mutex
	calls  [][]store.Event
	answer func([]store.Event) error // nil: everything is applied
	may    chan struct{}             // of the bubble; it is closed when the store may answer
}

func (s *scripted) IngestBatch(ctx context.Context, events []store.Event) ([]store.Outcome, error) {
	s.mu.Lock()
	s.calls = append(s.calls, slices.Clone(events))
	s.mu.Unlock()
	select {
	case <-s.may:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.answer != nil {
		if err := s.answer(events); err != nil {
			return nil, err
		}
	}
	outcomes := make([]store.Outcome, len(events))
	for i, e := range events {
		outcomes[i] = store.Applied
		if e.DeadReason != "" {
			outcomes[i] = store.Dead
		}
	}
	return outcomes, nil
}

// sizes of the transactions so far.
func (s *scripted) sizes() (n []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		n = append(n, len(c))
	}
	return n
}

// committing is a committer under test, in a bubble of its own time.
type committing struct {
	*committer
	mu      sync.Mutex
	results map[string]result
}

func inBubble(t *testing.T, s *scripted, workers int, test func(*testing.T, *committing)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.may = make(chan struct{})
		c := &committing{
			committer: newCommitter(s, workers, slog.New(slog.DiscardHandler), newMetrics()),
			results:   map[string]result{},
		}
		defer c.close()
		test(t, c)
	})
}

// send commits an event in the background.
func (c *committing) send(ctx context.Context, e store.Event) {
	go func() {
		outcome, err := c.commit(ctx, e)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.results[e.CallSID] = result{outcome, err}
	}()
}

// sendMany submits n events, after a first one that keeps the only worker busy.
func (c *committing) sendMany(ctx context.Context, n int) {
	c.send(ctx, store.Event{CallSID: "first"})
	synctest.Wait()
	for i := range n {
		c.send(ctx, store.Event{CallSID: fmt.Sprint("c", i)})
	}
	synctest.Wait()
}

// outcomes that have come so far.
func (c *committing) outcomes() map[store.Outcome]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := map[store.Outcome]int{}
	for _, r := range c.results {
		n[r.outcome]++
	}
	return n
}

func TestLoneEventIsNotDelayed(t *testing.T) {
	s := &scripted{}
	inBubble(t, s, 2, func(t *testing.T, c *committing) {
		close(s.may)
		start := time.Now()
		for range 3 {
			if outcome, err := c.commit(t.Context(), store.Event{CallSID: "c1"}); err != nil ||
				outcome != store.Applied {
				t.Fatalf("%v, %v", outcome, err)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("three events, one after the other, waited %s", waited)
		}
		if d := cmp.Diff([]int{1, 1, 1}, s.sizes()); d != "" {
			t.Errorf("transactions (-want +got):\n%s", d)
		}
	})
}

func TestConcurrentEventsShareTransactions(t *testing.T) {
	s := &scripted{}
	inBubble(t, s, 1, func(t *testing.T, c *committing) {
		c.sendMany(t.Context(), 300)
		if n := c.outcomes(); len(n) != 0 {
			t.Errorf("handlers woke before the store returned: %v", n)
		}
		close(s.may)
		synctest.Wait()
		if d := cmp.Diff([]int{1, maxBatch, maxBatch, 300 - 2*maxBatch}, s.sizes()); d != "" {
			t.Errorf("transactions (-want +got):\n%s", d)
		}
		if n := c.outcomes(); n[store.Applied] != 301 {
			t.Errorf("outcomes: %v", n)
		}
	})
}

func TestBatchOfLargeBodies(t *testing.T) {
	s := &scripted{}
	inBubble(t, s, 1, func(t *testing.T, c *committing) {
		c.send(t.Context(), store.Event{CallSID: "first"})
		synctest.Wait()
		for i := range 6 {
			c.send(t.Context(), store.Event{CallSID: fmt.Sprint("c", i), Raw: make([]byte, maxBatchBytes/2)})
		}
		synctest.Wait()
		close(s.may)
		synctest.Wait()
		if d := cmp.Diff([]int{1, 2, 2, 2}, s.sizes()); d != "" {
			t.Errorf("transactions (-want +got):\n%s", d)
		}
	})
}

// TestPoison verifies that an event that PostgreSQL rejects is found in its batch and stored as dead. The others are
// applied.
func TestPoison(t *testing.T) {
	s := &scripted{}
	s.answer = func(events []store.Event) error {
		for _, e := range events {
			if e.CallSID == "c5" && e.DeadReason == "" || e.Call.CustomField != "" {
				return &store.ServerError{Code: "22021", Message: "bad bytes"}
			}
		}
		return nil
	}
	inBubble(t, s, 1, func(t *testing.T, c *committing) {
		c.sendMany(t.Context(), 20)
		c.send(t.Context(), store.Event{
			CallSID:    "field",
			Call:       store.Call{CustomField: "x"},
			Stream:     &store.Stream{SID: "s"},
			Recordings: []store.NewRecording{{ID: "r"}},
			Stage:      store.CallBusy,
			Legs:       []store.Leg{{Key: "leg:1"}},
		})
		synctest.Wait()
		close(s.may)
		synctest.Wait()
		if n := c.outcomes(); n[store.Applied] != 20 || n[store.Dead] != 2 || c.results["c5"].outcome != store.Dead ||
			c.results["field"].outcome != store.Dead {
			t.Errorf("outcomes: %v", n)
		}
		if n := len(s.sizes()); n > 24 {
			t.Errorf("%d transactions to find two of 21 events", n)
		}
		for _, call := range s.calls {
			for _, e := range call {
				if e.DeadReason != "" && (e.DeadReason != "refused_by_database" || e.Stream != nil ||
					e.Recordings != nil || e.Call != (store.Call{}) || e.Legs != nil || e.Stage != store.CallUnknown) {
					t.Errorf("a dead event carries %+v", e)
				}
			}
		}
	})
}

// TestDefectOfTheStore verifies that an event that makes the store panic fails alone, and that the worker continues.
func TestDefectOfTheStore(t *testing.T) {
	s := &scripted{}
	s.answer = func(events []store.Event) error {
		if slices.ContainsFunc(events, func(e store.Event) bool { return e.CallSID == "c5" }) {
			panic("a defect")
		}
		return nil
	}
	inBubble(t, s, 1, func(t *testing.T, c *committing) {
		c.sendMany(t.Context(), 20)
		close(s.may)
		synctest.Wait()
		var broken *ingest.PanicError
		if n := c.outcomes(); n[store.Applied] != 20 || !errors.As(c.results["c5"].err, &broken) {
			t.Errorf("outcomes: %v, %v", n, c.results["c5"].err)
		}
	})
}

// TestStoreFails verifies that each sender of a failed batch gets the error, and that no event is stored as dead.
func TestStoreFails(t *testing.T) {
	for name, err := range map[string]error{
		"away":     store.ErrUnavailable,
		"late":     context.DeadlineExceeded,
		"deadlock": &store.ServerError{Code: "40P01"},
		"locked":   &store.ServerError{Code: "55P03"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scripted{}
			s.answer = func([]store.Event) error { return err }
			inBubble(t, s, 1, func(t *testing.T, c *committing) {
				c.sendMany(t.Context(), 20)
				close(s.may)
				synctest.Wait()
				for call, r := range c.results {
					if !errors.Is(r.err, err) || r.outcome != 0 {
						t.Errorf("%s: %v, %v", call, r.outcome, r.err)
					}
				}
				if d := cmp.Diff([]int{1, 20}, s.sizes()); d != "" {
					t.Errorf("transactions (-want +got):\n%s", d)
				}
			})
		})
	}
}

// TestStoreHangs verifies that a transaction that hangs fails after its time limit. The next one is tried.
func TestStoreHangs(t *testing.T) {
	s := &scripted{}
	inBubble(t, s, 1, func(t *testing.T, c *committing) {
		c.send(t.Context(), store.Event{CallSID: "c1"})
		time.Sleep(3 * time.Second)
		if got := time.Since(c.oldest()); got != 3*time.Second {
			t.Errorf("the oldest event has waited %s, want 3 s", got)
		}
		time.Sleep(commitTimeout - 3*time.Second + 1)
		synctest.Wait()
		if err := c.results["c1"].err; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v", commitTimeout, err)
		}
		if got := c.oldest(); !got.IsZero() {
			t.Errorf("nothing waits, and the oldest is of %s", got)
		}
		close(s.may)
		if outcome, err := c.commit(t.Context(), store.Event{}); err != nil || outcome != store.Applied {
			t.Errorf("the next one: %v, %v", outcome, err)
		}
	})
}

// TestHandlerGivesUp verifies that a waiting event whose handler gives up is left out, and does not delay the others.
func TestHandlerGivesUp(t *testing.T) {
	s := &scripted{}
	inBubble(t, s, 1, func(t *testing.T, c *committing) {
		impatient, cancel := context.WithCancel(t.Context())
		c.send(impatient, store.Event{CallSID: "under way"})
		synctest.Wait()
		c.send(impatient, store.Event{CallSID: "waiting"})
		c.send(t.Context(), store.Event{CallSID: "patient"})
		synctest.Wait()
		cancel()
		synctest.Wait()
		for _, call := range []string{"under way", "waiting"} {
			if err := c.results[call].err; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", call, err)
			}
		}
		close(s.may)
		synctest.Wait()
		if result := c.results["patient"]; result.err != nil || result.outcome != store.Applied {
			t.Errorf("patient: %+v", result)
		}
		if last := s.calls[len(s.calls)-1]; len(last) != 1 || last[0].CallSID != "patient" {
			t.Errorf("the last transaction is of %+v", last)
		}
	})
}

// TestQueueHoldsNoEventOfAHandlerThatGaveUp bounds the queue by the handlers, whatever the order in which they give up.
func TestQueueHoldsNoEventOfAHandlerThatGaveUp(t *testing.T) {
	s := &scripted{}
	inBubble(t, s, 1, func(t *testing.T, c *committing) {
		c.sendMany(t.Context(), 2) // of no tenant
		var giveUp []context.CancelFunc
		for i := range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			giveUp = append(giveUp, cancel)
			c.send(ctx, store.Event{Tenant: fmt.Sprint("t", i%3), CallSID: fmt.Sprint("impatient", i)})
		}
		synctest.Wait()
		for _, i := range rand.Perm(len(giveUp)) {
			giveUp[i]()
			synctest.Wait()
			if result := c.results[fmt.Sprint("impatient", i)]; !errors.Is(result.err, context.Canceled) {
				t.Errorf("the handler that gave up: %+v", result)
			}
		}
		if n := c.queue.events.Len(); n != 2 {
			t.Errorf("%d events wait, want 2", n)
		}
		close(s.may)
		synctest.Wait()
		if n := c.outcomes(); n[store.Applied] != 3 || c.queue.events.Len() != 0 {
			t.Errorf("outcomes: %v; the queue holds %d events", n, c.queue.events.Len())
		}
		if d := cmp.Diff([]int{1, 2}, s.sizes()); d != "" {
			t.Errorf("transactions (-want +got):\n%s", d)
		}
	})
}

// TestClose verifies that queued events are committed, that later ones fail, and that no goroutine is left.
func TestClose(t *testing.T) {
	s := &scripted{}
	inBubble(t, s, 2, func(t *testing.T, c *committing) {
		c.sendMany(t.Context(), 10)
		go c.close()
		synctest.Wait()
		close(s.may)
		synctest.Wait()
		if n := c.outcomes(); n[store.Applied] != 11 {
			t.Errorf("outcomes: %v", n)
		}
		c.send(t.Context(), store.Event{CallSID: "late"})
		synctest.Wait()
		if err := c.results["late"].err; !errors.Is(err, errClosed) {
			t.Errorf("after the end: %v", err)
		}
		c.close() // a second call does no harm
	})
}

// TestCloseSettlesMoreThanABatch checks that the only worker commits what is left after its batch, not only the batch.
func TestCloseSettlesMoreThanABatch(t *testing.T) {
	s := &scripted{}
	inBubble(t, s, 1, func(t *testing.T, c *committing) {
		c.sendMany(t.Context(), maxBatch+1)
		go c.close()
		synctest.Wait()
		close(s.may)
		synctest.Wait()
		if n := c.outcomes(); n[store.Applied] != maxBatch+2 {
			t.Errorf("outcomes: %v, want %d events applied", n, maxBatch+2)
		}
		if d := cmp.Diff([]int{1, maxBatch, 1}, s.sizes()); d != "" {
			t.Errorf("transactions (-want +got):\n%s", d)
		}
	})
}

package fair_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caly-dev/caly/internal/fair"
)

// service is the virtual time that a caller holds its place.
const service = 10 * time.Millisecond

// p99 returns the 99th percentile of the times from the arrival of a quiet key's caller to its end. The key has one
// caller every 100 ms. Before each of them, a noisy key has the given number of callers that wait.
func p99(t *testing.T, gate *fair.Gate, noise int) (quiet time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		use := func(key string) {
			release, err := gate.Acquire(t.Context(), key)
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(service)
			release()
		}
		var all sync.WaitGroup
		var took []time.Duration
		for range 200 {
			for range noise {
				all.Go(func() { use("noisy") })
			}
			synctest.Wait()
			start := time.Now()
			use("quiet")
			took = append(took, time.Since(start))
			time.Sleep(100 * time.Millisecond)
		}
		all.Wait()
		slices.Sort(took)
		quiet = took[len(took)*99/100]
	})
	return quiet
}

// TestNoisyKeyDelaysNoOtherKey compares the p99 of a key with its p99 alone, in virtual time.
func TestNoisyKeyDelaysNoOtherKey(t *testing.T) {
	for name, places := range map[string]int{"a database pool": 16, "a small pool": 4, "two places": 2} {
		t.Run(name, func(t *testing.T) {
			options := fair.Options{Places: places, PerKey: max(places/2, 1)}
			alone := p99(t, fair.NewGate(options), 0)
			noisy := p99(t, fair.NewGate(options), 500)
			if noisy*10 > alone*12 {
				t.Errorf("p99 is %s with a noisy tenant, %s alone", noisy, alone)
			}
		})
	}
}

// TestTurns admits waiting keys in turn, however many callers one of them has.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := fair.NewGate(fair.Options{Places: 1, PerKey: 1})
		first, err := gate.Acquire(t.Context(), "noisy")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		wait := func(key string) {
			all.Go(func() {
				release, err := gate.Acquire(t.Context(), key)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, key)
				mu.Unlock()
				release()
			})
			synctest.Wait()
		}
		for range 100 {
			wait("noisy")
		}
		wait("a")
		wait("b")
		wait("a")
		first()
		all.Wait()
		if want := []string{"noisy", "a", "b", "noisy", "a", "noisy"}; !slices.Equal(order[:len(want)], want) {
			t.Errorf("the order is %v, want it to begin with %v", order[:8], want)
		}
	})
}

// TestShareOfOneKey bounds what a key holds although places are free, and rejects what waits beyond the bound.
func TestShareOfOneKey(t *testing.T) { synctest.Test(t, testShareOfOneKey) }

func testShareOfOneKey(t *testing.T) {
	gate := fair.NewGate(fair.Options{Places: 8, PerKey: 2, MaxWaiting: 1})
	var releases []func()
	for range 2 {
		release, err := gate.Acquire(t.Context(), "noisy")
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	if _, ok := gate.TryAcquire("noisy"); ok {
		t.Error("a third place was granted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		_, err := gate.Acquire(ctx, "noisy")
		waits <- err
	}()
	synctest.Wait()
	if _, err := gate.Acquire(t.Context(), "noisy"); !errors.Is(err, fair.ErrBusy) {
		t.Errorf("a second waiting caller: %v", err)
	}
	if release, ok := gate.TryAcquire("quiet"); !ok {
		t.Error("the other key has no place")
	} else {
		release()
	}
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that gave up: %v", err)
	}
	releases[0]()
	if held := gate.Held("noisy"); held != 1 {
		t.Errorf("the key holds %d places after one release, want 1", held)
	}
	if _, ok := gate.TryAcquire("noisy"); !ok {
		t.Error("the returned place is not granted again")
	}
}

// TestBoundsHold runs many callers of many keys, lets some of them give up, and checks the bounds and that all places
// come back.
func TestBoundsHold(t *testing.T) {
	const places, perKey = 7, 3
	gate := fair.NewGate(fair.Options{Places: places, PerKey: perKey})
	keys := []string{"a", "b", "c", "d"}
	var total atomic.Int32
	var held [4]atomic.Int32
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for range 200 {
				key := (i + rand.IntN(2)) % len(keys)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(300))*time.Microsecond)
				release, err := gate.Acquire(ctx, keys[key])
				if err == nil {
					if total.Add(1) > places || held[key].Add(1) > perKey {
						t.Error("a bound is broken")
					}
					held[key].Add(-1)
					total.Add(-1)
					release()
				}
				cancel()
			}
		})
	}
	all.Wait()
	for _, key := range keys {
		if n := gate.Held(key); n != 0 {
			t.Errorf("%s still holds %d places", key, n)
		}
	}
	for i := range places {
		if _, ok := gate.TryAcquire(string(rune('m' + i))); !ok {
			t.Errorf("place %d did not come back", i)
		}
	}
}

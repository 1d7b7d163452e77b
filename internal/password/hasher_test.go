package password

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestVerify(t *testing.T) {
	hasher := NewHasher(Options{Params: cheap})
	stored, err := hasher.Hash(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	old := Params{Memory: 32, Time: 1, Threads: 1}.make(good)
	composed, err := hasher.Hash(t.Context(), "Zo\u00eb likes caf\u00e9 tables")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		password, phc   string
		wantOK, upgrade bool
	}{
		"right":                               {good, stored, true, false},
		"wrong":                               {good + "x", stored, false, false},
		"empty":                               {"", stored, false, false},
		"case":                                {strings.ToUpper(good), stored, false, false},
		"space at its end":                    {good + " ", stored, false, false},
		"right, other parameters":             {good, old, true, true},
		"wrong, other parameters":             {"x" + good, old, false, false},
		"written decomposed":                  {"Zoe\u0308 likes cafe\u0301 tables", composed, true, false},
		"no hash: an invitation":              {"", "", false, false},
		"no hash, any password":               {good, "", false, false},
		"unreadable":                          {good, "x", false, false},
		"costs too much":                      {good, strings.Replace(stored, "m=64", "m=4000000", 1), false, false},
		"endless":                             {strings.Repeat("a", 1<<20), stored, false, false},
		"the key of the dummy does not match": {"", hasher.dummy.encode(), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			ok, upgrade, err := hasher.Verify(t.Context(), tc.password, tc.phc)
			if err != nil || ok != tc.wantOK || upgrade != tc.upgrade {
				t.Errorf("%v, %v, %v; want %v, %v", ok, upgrade, err, tc.wantOK, tc.upgrade)
			}
		})
	}
}

// TestDummyCostsTheSame verifies that the dummy, which replaces a missing hash, has the parameters of a new hash. The
// parameters decide the cost.
func TestDummyCostsTheSame(t *testing.T) {
	hasher := NewHasher(Options{})
	made, err := parse(hasher.params.make(good))
	if err != nil {
		t.Fatal(err)
	}
	if hasher.dummy.Params != made.Params || len(hasher.dummy.salt) != len(made.salt) ||
		len(hasher.dummy.key) != len(made.key) ||
		hasher.dummy.Params != Default {
		t.Errorf("the dummy is %+v and a new hash %+v", hasher.dummy.Params, made.Params)
	}
}

// occupied is a hasher whose slots are taken until the test lets go.
func occupied(o Options) (h *Hasher, release func()) {
	h = NewHasher(o)
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	return h, func() { <-h.slots }
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher, release := occupied(Options{Params: cheap, Slots: 1, Queue: 2, Wait: time.Second})
		results := make(chan error, 2)
		for range 2 {
			go func() {
				_, _, err := hasher.Verify(t.Context(), good, "")
				results <- err
			}()
		}
		synctest.Wait()
		if n := hasher.Waiting(); n != 2 {
			t.Fatalf("%d wait, want 2", n)
		}
		before := time.Now()
		if _, err := hasher.Hash(t.Context(), good); !errors.Is(err, ErrBusy) {
			t.Errorf("the third: %v, want ErrBusy", err)
		}
		if waited := time.Since(before); waited != 0 {
			t.Errorf("the third waited %s to be refused", waited)
		}
		release()
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("one that waited: %v", err)
			}
		}
		if n := hasher.Waiting(); n != 0 || len(hasher.slots) != 0 {
			t.Errorf("%d still wait, %d slots are taken", n, len(hasher.slots))
		}
	})
}

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher, _ := occupied(Options{Params: cheap, Slots: 2, Wait: 3 * time.Second})
		before := time.Now()
		_, err := hasher.Hash(t.Context(), good)
		if waited := time.Since(before); !errors.Is(err, ErrBusy) || waited != 3*time.Second {
			t.Errorf("%v after %s, want ErrBusy after 3s", err, waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := hasher.Verify(ctx, good, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the context's error", err)
		}
		if n := hasher.Waiting(); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

func TestSlotsFor(t *testing.T) {
	for name, tc := range map[string]struct {
		procs  int
		memory int64
		want   int
	}{
		"one CPU":                         {procs: 1, memory: DefaultMemory, want: 1},
		"three CPUs":                      {procs: 3, memory: DefaultMemory, want: 1},
		"half of the CPUs":                {procs: 8, memory: DefaultMemory, want: 4},
		"64 CPUs, a small share":          {procs: 64, memory: 80 << 20, want: 4},
		"96 CPUs, the default":            {procs: 96, memory: DefaultMemory, want: 6},
		"96 CPUs, a large share":          {procs: 96, memory: 8 << 30, want: 48},
		"a share below one hash's memory": {procs: 96, memory: 1, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := slotsFor(tc.procs, tc.memory, Default); got != tc.want {
				t.Errorf("%d slots, want %d", got, tc.want)
			}
		})
	}
}

// TestStoredParametersCountTheirMemory checks that hashes of more memory than new ones run in smaller numbers, and that
// one runs alone.
func TestStoredParametersCountTheirMemory(t *testing.T) {
	for name, tc := range map[string]struct {
		memory, weight int64
		want           int
	}{
		"the memory of new hashes":         {memory: 80 << 20, weight: 19 << 20, want: 4},
		"a stored hash of 64 MiB":          {memory: 160 << 20, weight: 64 << 20, want: 2},
		"a stored hash larger than all of": {memory: 32 << 20, weight: 32 << 20, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			hasher := NewHasher(Options{Slots: 8, Memory: tc.memory})
			entered := 0
			for hasher.tryEnter(tc.weight) {
				entered++
			}
			if entered != tc.want || len(hasher.slots) != tc.want {
				t.Fatalf("%d hashes run at once in %d slots, want %d", entered, len(hasher.slots), tc.want)
			}
			for range entered {
				hasher.leave(tc.weight)
			}
			if !hasher.memory.TryAcquire(tc.memory) || len(hasher.slots) != 0 {
				t.Error("memory or slots are still taken")
			}
		})
	}
}

// TestLargeStoredHashRunsAlone checks that a password whose stored hash needs more than all of the memory can still be
// verified.
func TestLargeStoredHashRunsAlone(t *testing.T) {
	hasher := NewHasher(Options{Params: cheap, Memory: 1 << 20})
	if ok, _, err := hasher.Verify(t.Context(), "password", reference); err != nil || !ok {
		t.Errorf("%v, %v; want the stored hash to match", ok, err)
	}
}

// TestWaitForMemoryIsBounded checks that a hash that finds a slot but no memory gives its slot back, in time.
func TestWaitForMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher := NewHasher(Options{Params: cheap, Slots: 2, Memory: 96 << 10, Wait: 3 * time.Second})
		if !hasher.tryEnter(64 << 10) {
			t.Fatal("the first finds no memory")
		}
		before := time.Now()
		_, err := hasher.Hash(t.Context(), good)
		if waited := time.Since(before); !errors.Is(err, ErrBusy) || waited != 3*time.Second {
			t.Errorf("%v after %s, want ErrBusy after 3s", err, waited)
		}
		if hasher.Waiting() != 0 || len(hasher.slots) != 1 {
			t.Errorf("%d wait and %d slots are taken, want 0 and 1", hasher.Waiting(), len(hasher.slots))
		}
		hasher.leave(64 << 10)
		if _, err := hasher.Hash(t.Context(), good); err != nil {
			t.Errorf("with memory free: %v", err)
		}
	})
}

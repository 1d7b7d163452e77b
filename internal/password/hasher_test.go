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
	h := NewHasher(Options{Params: cheap})
	stored, err := h.Hash(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	old := Params{Memory: 32, Time: 1, Threads: 1}.make(good)
	composed, err := h.Hash(t.Context(), "Zo\u00eb likes caf\u00e9 tables")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		password, phc   string
		wantOK, upgrade bool
	}{
		"right":                        {good, stored, true, false},
		"wrong":                        {good + "x", stored, false, false},
		"empty":                        {"", stored, false, false},
		"case":                         {strings.ToUpper(good), stored, false, false},
		"space at its end":             {good + " ", stored, false, false},
		"right, other parameters":      {good, old, true, true},
		"wrong, other parameters":      {"x" + good, old, false, false},
		"written decomposed":           {"Zoe\u0308 likes cafe\u0301 tables", composed, true, false},
		"no hash: an invitation":       {"", "", false, false},
		"no hash, any password":        {good, "", false, false},
		"unreadable":                   {good, "x", false, false},
		"costs too much":               {good, strings.Replace(stored, "m=64", "m=4000000", 1), false, false},
		"endless":                      {strings.Repeat("a", 1<<20), stored, false, false},
		"key of the dummy is no match": {"", h.dummy.encode(), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			ok, upgrade, err := h.Verify(t.Context(), tc.password, tc.phc)
			if err != nil || ok != tc.wantOK || upgrade != tc.upgrade {
				t.Errorf("%v, %v, %v; want %v, %v", ok, upgrade, err, tc.wantOK, tc.upgrade)
			}
		})
	}
}

// TestDummyCostsTheSame : the parameters decide on the cost, and what stands in for a missing hash has those of a new one.
func TestDummyCostsTheSame(t *testing.T) {
	h := NewHasher(Options{})
	made, err := parse(h.params.make(good))
	if err != nil {
		t.Fatal(err)
	}
	if h.dummy.Params != made.Params || len(h.dummy.salt) != len(made.salt) || len(h.dummy.key) != len(made.key) || h.dummy.Params != Default {
		t.Errorf("the dummy is %+v and a new hash %+v", h.dummy.Params, made.Params)
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
		h, release := occupied(Options{Params: cheap, Slots: 1, Queue: 2, Wait: time.Second})
		results := make(chan error, 2)
		for range 2 {
			go func() {
				_, _, err := h.Verify(t.Context(), good, "")
				results <- err
			}()
		}
		synctest.Wait()
		if n := h.Waiting(); n != 2 {
			t.Fatalf("%d wait, want 2", n)
		}
		before := time.Now()
		if _, err := h.Hash(t.Context(), good); !errors.Is(err, ErrBusy) {
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
		if n := h.Waiting(); n != 0 || len(h.slots) != 0 {
			t.Errorf("%d still wait, %d slots are taken", n, len(h.slots))
		}
	})
}

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := occupied(Options{Params: cheap, Slots: 2, Wait: 3 * time.Second})
		before := time.Now()
		_, err := h.Hash(t.Context(), good)
		if waited := time.Since(before); !errors.Is(err, ErrBusy) || waited != 3*time.Second {
			t.Errorf("%v after %s, want ErrBusy after 3s", err, waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := h.Verify(ctx, good, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the context's error", err)
		}
		if n := h.Waiting(); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

func TestDefaultsLeaveHalfOfTheCPUs(t *testing.T) {
	for procs, want := range map[int]int{1: 1, 2: 1, 3: 1, 8: 4} {
		if got := slotsFor(procs); got != want {
			t.Errorf("%d CPUs: %d slots, want %d", procs, got, want)
		}
	}
}

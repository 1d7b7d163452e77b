// Package eventually has tests wait for what other goroutines, processes or servers do.
package eventually

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// Patience bounds a wait that is not itself what the test measures.
const Patience = 30 * time.Second

// The pause before the next check is a part of the time that has passed: what happens at once is seen at once, a wait
// ends little later than it could, and a slow server is not flooded.
const (
	part          = 16
	shortestPause = 2 * time.Millisecond
	longestPause  = 250 * time.Millisecond
)

// Within is the longest time that a wait may take.
type Within time.Duration

// Holds waits until ok returns true. It ends the test otherwise: what names the condition, such as "the pod is ready".
func Holds(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Within(Patience).Holds(t, what, ok)
}

// Succeeds waits until check returns nil. It ends the test with the last error otherwise.
func Succeeds(t testing.TB, check func(ctx context.Context) error) {
	t.Helper()
	Within(Patience).Succeeds(t, check)
}

// Holds is the function Holds with a bound of the test's own.
func (w Within) Holds(t testing.TB, what string, ok func() bool) {
	t.Helper()
	never := errors.New(what)
	w.Succeeds(t, func(context.Context) error {
		if ok() {
			return nil
		}
		return never
	})
}

// Reaches waits as Holds does. The test that ends says what check saw last.
func (w Within) Reaches(t testing.TB, what string, check func(ctx context.Context) (ok bool, seen string)) {
	t.Helper()
	w.Succeeds(t, func(ctx context.Context) error {
		ok, seen := check(ctx)
		if ok {
			return nil
		}
		return fmt.Errorf("%s; last seen: %s", what, seen)
	})
}

// Succeeds is the function Succeeds with a bound of the test's own. The context ends at the bound, so that a server that
// does not answer cannot hold the test. An error that only reports that end is left out where an earlier one says more.
func (w Within) Succeeds(t testing.TB, check func(ctx context.Context) error) {
	t.Helper()
	// A cleanup waits too: the test's own context has ended by then.
	if err := w.Try(context.WithoutCancel(t.Context()), check); err != nil {
		t.Fatalf("not within %s: %v", time.Duration(w), err)
	}
}

// Try waits as Succeeds does, for code that has no test at hand. It returns the error that ends a test of Succeeds.
func (w Within) Try(ctx context.Context, check func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(w))
	defer cancel()
	var last error
	for began := time.Now(); ; {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(pause(began)):
		}
	}
}

// For is a time in which nothing may change.
type For time.Duration

// Stays checks until the time has passed that check returns nil each time. It ends the test with the first error.
func (f For) Stays(t testing.TB, check func(ctx context.Context) error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for began := time.Now(); ; {
		left := time.Duration(f) - time.Since(began)
		if err := check(ctx); err != nil {
			t.Fatalf("after %s: %v", time.Since(began).Round(time.Millisecond), err)
		}
		if left <= 0 {
			return
		}
		time.Sleep(min(pause(began), left))
	}
}

// pause is the time until the next check of a wait that began then.
func pause(began time.Time) time.Duration {
	return min(max(time.Since(began)/part, shortestPause), longestPause)
}

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
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Duration(w))
	defer cancel()
	var last error
	for began := time.Now(); ; {
		err := check(ctx)
		if err == nil {
			return
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", time.Duration(w), last)
		case <-time.After(min(max(time.Since(began)/part, shortestPause), longestPause)):
		}
	}
}

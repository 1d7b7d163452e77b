// Package eventually has tests wait for what other goroutines, processes or servers do.
package eventually

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Patience bounds a wait that is not itself what the test measures.
const Patience = 30 * time.Second

// The pauses between checks grow from the first to the longest: what happens at once is seen at once, and a slow server
// is not flooded.
const (
	firstPause   = 2 * time.Millisecond
	longestPause = 50 * time.Millisecond
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

// Succeeds is the function Succeeds with a bound of the test's own. The context ends at the bound, so that a server that
// does not answer cannot hold the test. An error that only reports that end is left out where an earlier one says more.
func (w Within) Succeeds(t testing.TB, check func(ctx context.Context) error) {
	t.Helper()
	// A cleanup waits too: the test's own context has ended by then.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Duration(w))
	defer cancel()
	var last error
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
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
		case <-time.After(pause):
		}
	}
}

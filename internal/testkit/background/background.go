// Package background runs parts of a program next to a test.
package background

import (
	"context"
	"sync"
	"testing"
)

// Run runs a part of a program until the end of the test, or until stop is called. Either cancels the part's context
// and waits for its return. An error that it returns fails the test.
func Run(t testing.TB, part func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- part(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a part in the background ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

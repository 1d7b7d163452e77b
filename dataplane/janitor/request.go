package janitor

import (
	"context"
	"net/http"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
)

// Cleanup answers POST /api/monitoring/cleanup: it runs a full cleanup now and returns the statistics after it. One
// request at a time waits for a cleanup. Others are answered 429.
func (j *Janitor) Cleanup() http.Handler { return http.HandlerFunc(j.serveCleanup) }

func (j *Janitor) serveCleanup(w http.ResponseWriter, r *http.Request) {
	id := w.Header().Get("X-Request-Id")
	if !j.requested.CompareAndSwap(false, true) {
		problem.New(problem.RateLimited, "a cleanup that a client asked for is in progress").
			WithRetryAfter(5*time.Second).Write(w, id)
		return
	}
	defer j.requested.Store(false)
	ctx, cancel := context.WithTimeout(r.Context(), 2*j.o.Budget) // one in progress has to end first
	defer cancel()
	done := make(chan error, 1)
	select {
	case j.asked <- done:
	case <-ctx.Done():
		problem.New(problem.Unavailable, "the janitor is starting, stopping or busy; retry later").
			WithRetryAfter(5*time.Second).Write(w, id)
		return
	}
	if err := <-done; err != nil { // bounded by the budget of a cleanup
		problem.New(problem.Database, "the cleanup failed; it continues with the next one").
			WithCause(err).WithRetryAfter(5*time.Second).Write(w, id)
		return
	}
	j.ServeHTTP(w, r)
}

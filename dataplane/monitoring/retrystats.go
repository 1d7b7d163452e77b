package monitoring

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/resilience"
)

// RetryStats answers GET /api/monitoring/retry-stats with the statistics of the whole installation; 503 while PostgreSQL
// does not answer.
func RetryStats(stats func(context.Context) (resilience.Stats, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := stats(r.Context())
		if err != nil {
			problem.New(problem.Database, "the statistics are in PostgreSQL, which does not answer; retry later").
				WithCause(err).WithRetryAfter(5*time.Second).Write(w, w.Header().Get("X-Request-Id"))
			return
		}
		body, _ := json.MarshalIndent(answer, "", "  ") // numbers and a text: it never fails
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(append(body, '\n')) // the client may be gone
	})
}

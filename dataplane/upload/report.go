package upload

import (
	"context"
	"time"

	"github.com/caly-dev/caly/internal/resilience"
)

// reportRetries adds what the registry counted since the last report to the statistics in PostgreSQL, which outlive the pod.
// What cannot be reported now is reported with the next; it is worth no wait at the end. Not for use by two goroutines.
func (w *worker) reportRetries() {
	now := w.o.Registry.Counts()
	counts := resilience.Since(now, w.reported)
	if len(counts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := w.db.AddRetries(ctx, w.cfg.ID, counts); err != nil {
		w.log.Warn("retry statistics could not be kept", "error", err)
		return
	}
	w.reported = now
}

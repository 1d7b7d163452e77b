package upload

import (
	"math/rand/v2"
	"time"

	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
)

// mostWait bounds the wait that the other side asks for.
const mostWait = time.Hour

// decision is what becomes of a recording whose transfer met a fault.
type decision struct {
	// Fail ends it; otherwise it is due again at At.
	Fail bool
	At   time.Time
	// Count the attempt against the recording.
	Count bool
}

// decide is pure but for the jitter. A recording ends when its attempts are used up, though never within the first two
// hours: Exotel may still be publishing it.
func decide(rec store.Recording, f *fault, now time.Time, pause time.Duration) decision {
	switch f.kind {
	case never:
		return decision{Fail: true}
	case tenantWide, misconfigured:
		return decision{At: now.Add(pause)}
	}
	if rec.Attempts+1 >= recording.MaxAttempts && now.Sub(rec.CreatedAt) >= recording.Window {
		return decision{Fail: true}
	}
	return decision{At: now.Add(max(backoff(rec.Attempts), min(f.wait, mostWait))), Count: true}
}

// backoff varies the wait by a fifth, so that recordings that failed together come apart.
func backoff(attempts int) time.Duration {
	wait := recording.Wait(attempts)
	return wait*4/5 + rand.N(wait*2/5) //nolint:gosec // jitter needs no secrecy
}

package ratelimit

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Decision on one try.
type Decision struct {
	// Allowed lets it through. It counts then, and only then: who keeps trying while refused is let in again all the same once
	// the window has moved on, and no refusal costs a write.
	Allowed bool
	// Name of the limit, and the Limit itself that was in force.
	Name  Name
	Limit Limit
	// Remaining tries that would be let through now.
	Remaining int
	// RetryAfter is when a refused try would be let through; 0 if this one was.
	RetryAfter time.Duration
	// Reset is when the next of the tries that count falls out of the window.
	Reset time.Duration
	// Fallback: the database did not answer in time, so the pod decided by what it has seen itself.
	Fallback bool
}

// SetHeaders tells the client, as draft-ietf-httpapi-ratelimit-headers has it, and Retry-After on a refusal. Of several limits
// that bear on one response, the last one set is told.
func (d Decision) SetHeaders(h http.Header) {
	h.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", string(d.Name), d.Limit.Requests, seconds(d.Limit.Window)))
	h.Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", string(d.Name), d.Remaining, seconds(d.Reset)))
	if !d.Allowed {
		h.Set("Retry-After", strconv.FormatInt(max(seconds(d.RetryAfter), 1), 10))
	}
}

// seconds rounds up, so that a client that waits this long is not too early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

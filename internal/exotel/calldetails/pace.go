package calldetails

import (
	"context"
	"sync"
	"time"
)

// pacer spaces requests out: Exotel allows an account 200 a minute, and what is over is answered 429 to everybody who uses
// the account, its own applications included.
type pacer struct {
	every time.Duration

	mu   sync.Mutex
	next time.Time
}

// wait returns when the caller's turn has come, or the context's error.
func (p *pacer) wait(ctx context.Context) error {
	left := p.reserve(time.Now())
	if left <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// reserve takes the next free turn and tells how far off it is.
func (p *pacer) reserve(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.next = now
	}
	left := p.next.Sub(now)
	p.next = p.next.Add(p.every)
	return left
}

package calldetails

import (
	"context"
	"sync"
	"time"
)

// Pacer spaces an account's requests out: Exotel allows 200 a minute, and what is over is answered 429 to everybody who
// uses the account, its own applications included. Clients of one account share one.
type Pacer struct {
	every time.Duration

	mu         sync.Mutex
	next, held time.Time
}

// NewPacer spaces requests by interval; 0 means 300 ms, which is Exotel's limit. Negative means not at all.
func NewPacer(interval time.Duration) *Pacer {
	if interval == 0 {
		interval = defaultInterval
	}
	return &Pacer{every: max(interval, 0)}
}

// Idle tells whether a new Pacer in its place would let nobody through sooner.
func (p *Pacer) Idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.next.After(time.Now())
}

// maxHold bounds how long one answer may keep an account waiting.
const maxHold = time.Hour

// hold keeps everybody back for so long, as Exotel asked for. Turns that were given out before stay good.
func (p *Pacer) hold(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := time.Now().Add(min(d, maxHold))
	if p.held.Before(until) {
		p.held = until
	}
	if p.next.Before(until) {
		p.next = until
	}
}

// holds is how long everybody is still kept back.
func (p *Pacer) holds() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.held)
}

// wait returns when the caller's turn has come, or the context's error.
func (p *Pacer) wait(ctx context.Context) error {
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
func (p *Pacer) reserve(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.next = now
	}
	left := p.next.Sub(now)
	p.next = p.next.Add(p.every)
	return left
}

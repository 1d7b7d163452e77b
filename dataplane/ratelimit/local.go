package ratelimit

import (
	"slices"
	"time"

	"github.com/caly-dev/caly/internal/store"
)

// Bounds of what a pod remembers: some 15 MB of blocked keys, and 8 MB of hits.
const (
	blockedKeys = 64 << 10
	localHits   = 1 << 20
	// keyWeight is what a key of the local log costs in addition to its hits, in hits.
	keyWeight = 24
)

// block is a key that the database has refused, or would.
type block struct {
	until time.Time
	limit Limit
}

// log is a sliding log in the pod: the times of the hits since the pod began, the oldest first.
type log []time.Duration

// local is what a pod knows by itself.
type local struct {
	start   time.Time
	blocked *memory[block]
	logs    *memory[log]
}

func newLocal(start time.Time) *local {
	return &local{start: start, blocked: newMemory[block](blockedKeys), logs: newMemory[log](localHits)}
}

// block notes that a key is refused until then.
func (l *local) block(k hash, limit Limit, until time.Time) {
	l.blocked.use(k, func(b *block) int {
		*b = block{until: until, limit: limit}
		return 1
	})
}

// blockedFor returns how long a key is refused for sure. Under another limit than it was refused under, nothing is sure.
func (l *local) blockedFor(k hash, limit Limit, now time.Time) (wait time.Duration) {
	l.blocked.peek(k, func(b *block) int {
		wait = b.until.Sub(now)
		if wait <= 0 || b.limit != limit {
			wait = 0
			return 0
		}
		return 1
	})
	return wait
}

// take is what the database does in caly_take_hits, for the hits that this pod has seen. If the pod has no room left for a key,
// it forgets the one that was used longest ago.
func (l *local) take(k hash, limit Limit, wanted int, now time.Time) (got store.HitsTaken) {
	at := now.Sub(l.start)
	l.logs.use(k, func(h *log) int {
		h.slide(at - limit.Window)
		got.Granted = min(wanted, max(limit.Requests-len(*h), 0))
		h.add(at, got.Granted)
		got.Used = len(*h)
		got.FreeIn = (*h)[max(got.Used-limit.Requests, 0)] + limit.Window - at
		return keyWeight + cap(*h)
	})
	return got
}

// note keeps hits that the database granted, so that the pod does not begin at nothing when it must go on alone.
func (l *local) note(k hash, limit Limit, granted int, now time.Time) {
	if granted == 0 {
		return
	}
	at := now.Sub(l.start)
	l.logs.use(k, func(h *log) int {
		h.slide(at - limit.Window)
		h.add(at, granted)
		if over := len(*h) - limit.Requests; over > 0 { // the limit was lowered
			*h = slices.Delete(*h, 0, over)
		}
		return keyWeight + cap(*h)
	})
}

// giveBack drops the latest hit of a key, which then has room for another.
func (l *local) giveBack(k hash) {
	l.blocked.peek(k, func(*block) int { return 0 })
	l.logs.peek(k, func(h *log) int {
		if n := len(*h); n > 0 {
			*h = (*h)[:n-1]
		}
		return keyWeight + cap(*h)
	})
}

// slide drops the hits up to and at a time.
func (h *log) slide(to time.Duration) {
	n, _ := slices.BinarySearchFunc(*h, to, func(hit, to time.Duration) int {
		if hit <= to {
			return -1
		}
		return 1
	})
	*h = slices.Delete(*h, 0, n)
}

func (h *log) add(at time.Duration, n int) {
	for range n {
		*h = append(*h, at)
	}
}

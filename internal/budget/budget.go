// Package budget bounds memory that many share: each has a little of its own, and what it needs beyond that comes out of one budget.
package budget

import "sync/atomic"

// Budget is a number of bytes. A nil one has no bound.
type Budget struct {
	most int64
	used atomic.Int64
	of   *Budget // the larger budget that this one is a part of; nil: none
}

// New returns a budget of most bytes.
func New(most int64) *Budget { return &Budget{most: most} }

// Part returns a budget of at most this many bytes. Every byte of it also counts against b, so that the users of a part
// cannot use up all of b.
func (b *Budget) Part(most int64) *Budget { return &Budget{most: most, of: b} }

// Max returns the number of bytes in all; 0 for a budget without a bound.
func (b *Budget) Max() int64 {
	if b == nil {
		return 0
	}
	return b.most
}

// InUse is how much is taken now, in bytes.
func (b *Budget) InUse() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

func (b *Budget) take(n int64) bool {
	if b == nil {
		return true
	}
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	if !b.of.take(n) {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *Budget) give(n int64) {
	if b != nil {
		b.used.Add(-n)
		b.of.give(n)
	}
}

// Share is what one of many has of a budget. It is for one goroutine at a time, and must be resized to 0 in the end.
type Share struct {
	budget     *Budget
	free, held int64
}

// Share returns a share with free bytes of its own, which the budget does not count.
func (b *Budget) Share(free int64) Share { return Share{budget: b, free: free} }

// Resize sets the share to bytes in all. It reports false, and changes nothing, when the budget has no room. Shrinking
// always succeeds.
func (s *Share) Resize(bytes int64) bool {
	need := max(0, bytes-s.free)
	switch {
	case need > s.held:
		if !s.budget.take(need - s.held) {
			return false
		}
	case need < s.held:
		s.budget.give(s.held - need)
	}
	s.held = need
	return true
}

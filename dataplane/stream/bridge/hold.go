package bridge

import (
	"math"
	"sync"
	"time"
)

// holding makes a lane patient: its sender waits for room.
func (l *lane) holding() {
	l.patient = true
	l.freed = sync.NewCond(&l.mu)
}

// hold waits until the item fits. The link's goroutine empties the queue meanwhile, or fails after the time without progress, which ends
// the call.
func (l *lane) hold(i item) {
	for !l.over() && !l.idle() && !l.fits(i) {
		l.heldUntil.Store(math.MaxInt64)
		l.freed.Wait()
		l.heldUntil.Store(int64(now()))
	}
}

// fits reports whether the item may wait, and reserves memory for it then.
func (l *lane) fits(i item) bool {
	if len(l.queue) > 0 && l.waiting()+i.cost() > maxQueued {
		return false
	}
	return l.room.Resize(int64(l.waiting() + i.cost()))
}

// wake has a sender that waits look again.
func (l *lane) wake() {
	if l.freed != nil {
		l.freed.Signal()
	}
}

// heldSince reports whether the sender has waited at any time since t.
func (l *lane) heldSince(t time.Duration) bool { return time.Duration(l.heldUntil.Load()) >= t }

// play adds audio that was read now to what the destination has to play. It reports whether the sender was ahead of real time by more
// than the budget before that.
func (l *lane) play(audio int, at time.Duration) (early bool) {
	early = l.due-at > l.budget
	if audio > 0 && l.rate > 0 {
		l.due = max(l.due, at) + time.Duration(audio)*time.Second/time.Duration(l.rate)
	}
	return early
}

package password

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/text/unicode/norm"
)

// ErrBusy : more passwords wait to be hashed than can be in good time. Nothing was done.
var ErrBusy = errors.New("too many passwords are being checked at this moment")

// Options of NewHasher. All zero values have a meaning.
type Options struct {
	// Params of new hashes; zero: Default.
	Params Params
	// Slots is how many hashes are made at a time: each takes a CPU and Params.Memory. 0: half of the CPUs, at least one, so that whoever
	// tries passwords leaves the other half to everybody else.
	Slots int
	// Queue is how many may wait for a slot; 0: 32 for each slot. Wait is for how long; 0: two seconds.
	Queue int
	Wait  time.Duration
}

// Hasher hashes passwords, a few at a time.
type Hasher struct {
	params  Params
	slots   chan struct{}
	queue   int64
	wait    time.Duration
	waiting atomic.Int64
	dummy   hashed
}

// NewHasher returns a hasher.
func NewHasher(o Options) *Hasher {
	if o.Params == (Params{}) {
		o.Params = Default
	}
	if o.Slots <= 0 {
		o.Slots = slotsFor(runtime.GOMAXPROCS(0))
	}
	if o.Queue <= 0 {
		o.Queue = 32 * o.Slots
	}
	if o.Wait <= 0 {
		o.Wait = 2 * time.Second
	}
	return &Hasher{params: o.Params, slots: make(chan struct{}, o.Slots), queue: int64(o.Queue), wait: o.Wait,
		dummy: hashed{Params: o.Params, salt: make([]byte, saltSize), key: make([]byte, keySize)}}
}

func slotsFor(procs int) int { return max(1, procs/2) }

// Hash returns the PHC form of a password. ErrBusy beyond what the hasher takes on.
func (h *Hasher) Hash(ctx context.Context, password string) (phc string, err error) {
	password = normalize(password)
	err = h.run(ctx, func() { phc = h.params.make(password) })
	return phc, err
}

// Verify tells whether a password is the one that was hashed, and whether its hash should be made anew. A hash that is empty or cannot be
// read matches none, at the cost of any other: use it for users that do not exist. ErrBusy as with Hash.
func (h *Hasher) Verify(ctx context.Context, password, phc string) (ok, upgrade bool, err error) {
	want, unreadable := parse(phc)
	if unreadable != nil {
		want = h.dummy
	}
	if len(password) > maxBytes {
		password = "" // nobody's; the cost stays the same
	}
	password = normalize(password)
	err = h.run(ctx, func() { ok = want.matches(password) })
	ok = ok && err == nil && unreadable == nil
	return ok, ok && want.weaker(h.params), err
}

// Capacity is how many passwords are hashed or wait for their turn at most.
func (h *Hasher) Capacity() int { return cap(h.slots) + int(h.queue) }

// Waiting is how many passwords wait for their turn.
func (h *Hasher) Waiting() int { return int(h.waiting.Load()) }

// run waits for a slot and runs f in it.
func (h *Hasher) run(ctx context.Context, f func()) error {
	if err := h.enter(ctx); err != nil {
		return err
	}
	defer func() { <-h.slots }()
	f()
	return nil
}

func (h *Hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > h.queue {
		return ErrBusy
	}
	timer := time.NewTimer(h.wait)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// normalize makes one password of the ways in which keyboards write it.
func normalize(password string) string { return norm.NFC.String(password) }

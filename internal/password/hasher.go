package password

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/text/unicode/norm"
)

// ErrBusy is returned when more passwords wait to be hashed than can be hashed in good time. Nothing was done.
var ErrBusy = errors.New("too many passwords are being checked at this moment")

// DefaultMemory is the memory of all hashes that run at once, in bytes, where nothing else is known.
const DefaultMemory = 128 << 20

// Options of NewHasher. All zero values have a meaning.
type Options struct {
	// Params of new hashes; zero: Default.
	Params Params
	// Slots is the number of hashes that run at once. Each takes a CPU. 0 is the smaller of two numbers: half of the CPUs,
	// so that an attacker who tries passwords leaves the other half to everyone else, and the hashes of Params that fit
	// into Memory. At least one.
	Slots int
	// Memory bounds the memory of all hashes that run at once, in bytes; 0: DefaultMemory. A stored hash counts with its
	// own parameters. A hash that needs more than Memory runs alone: the parameters of stored hashes have a ceiling of 64
	// MiB.
	Memory int64
	// Queue is the number of passwords that may wait for a slot; 0: 32 for each slot. Wait bounds their wait; 0: two
	// seconds.
	Queue int
	Wait  time.Duration
}

// Hasher hashes passwords, a few at a time.
type Hasher struct {
	params   Params
	slots    chan struct{}
	capacity int64
	memory   *semaphore.Weighted // of capacity
	queue    int64
	wait     time.Duration
	waiting  atomic.Int64
	dummy    hashed
}

// NewHasher returns a hasher.
func NewHasher(o Options) *Hasher {
	if o.Params == (Params{}) {
		o.Params = Default
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	if o.Slots <= 0 {
		o.Slots = slotsFor(runtime.GOMAXPROCS(0), o.Memory, o.Params)
	}
	if o.Queue <= 0 {
		o.Queue = 32 * o.Slots
	}
	if o.Wait <= 0 {
		o.Wait = 2 * time.Second
	}
	return &Hasher{
		params:   o.Params,
		slots:    make(chan struct{}, o.Slots),
		capacity: o.Memory,
		memory:   semaphore.NewWeighted(o.Memory),
		queue:    int64(o.Queue),
		wait:     o.Wait,
		dummy:    hashed{Params: o.Params, salt: make([]byte, saltSize), key: make([]byte, keySize)},
	}
}

// slotsFor returns the number of hashes that half of the CPUs and the memory bear, at least one.
func slotsFor(procs int, memory int64, p Params) int {
	return int(max(1, min(int64(procs/2), memory/p.bytes())))
}

// Hash returns the PHC form of a password. ErrBusy beyond what the hasher takes on.
func (h *Hasher) Hash(ctx context.Context, password string) (phc string, err error) {
	password = normalize(password)
	err = h.run(ctx, h.params, func() { phc = h.params.make(password) })
	return phc, err
}

// Verify reports whether a password is the one that was hashed, and whether its hash should be replaced. A hash that
// is empty or cannot be read matches no password, at the cost of any other: use it for users that do not exist.
// ErrBusy as with Hash.
func (h *Hasher) Verify(ctx context.Context, password, phc string) (ok, upgrade bool, err error) {
	want, unreadable := parse(phc)
	if unreadable != nil {
		want = h.dummy
	}
	if len(password) > maxBytes {
		password = "" // nobody's; the cost stays the same
	}
	password = normalize(password)
	err = h.run(ctx, want.Params, func() { ok = want.matches(password) })
	ok = ok && err == nil && unreadable == nil
	return ok, ok && want.weaker(h.params), err
}

// Capacity is how many passwords are hashed or wait for their turn at most.
func (h *Hasher) Capacity() int { return cap(h.slots) + int(h.queue) }

// Waiting is how many passwords wait for their turn.
func (h *Hasher) Waiting() int { return int(h.waiting.Load()) }

// Slots is the number of hashes that run at once, at most.
func (h *Hasher) Slots() int { return cap(h.slots) }

// run waits for a slot and the memory of p, and runs f.
func (h *Hasher) run(ctx context.Context, p Params, f func()) error {
	weight := min(p.bytes(), h.capacity)
	if err := h.enter(ctx, weight); err != nil {
		return err
	}
	defer h.leave(weight)
	f()
	return nil
}

// enter takes a slot and memory, and waits for them in the bounded queue where they are taken.
func (h *Hasher) enter(ctx context.Context, weight int64) error {
	if h.tryEnter(weight) {
		return nil
	}
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > h.queue {
		return ErrBusy
	}
	waiting, cancel := context.WithTimeout(ctx, h.wait)
	defer cancel()
	err := h.await(waiting, weight)
	if err != nil && ctx.Err() == nil {
		return ErrBusy
	}
	return err
}

// tryEnter takes a slot and memory if both are free.
func (h *Hasher) tryEnter(weight int64) bool {
	select {
	case h.slots <- struct{}{}:
	default:
		return false
	}
	if !h.memory.TryAcquire(weight) {
		<-h.slots
		return false
	}
	return true
}

// await takes a slot, and then memory. A hash that holds memory waits for nothing, so none waits forever for another.
func (h *Hasher) await(ctx context.Context, weight int64) error {
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := h.memory.Acquire(ctx, weight); err != nil {
		<-h.slots
		return err
	}
	return nil
}

func (h *Hasher) leave(weight int64) {
	h.memory.Release(weight)
	<-h.slots
}

// normalize makes one password of the ways in which keyboards write it.
func normalize(password string) string { return norm.NFC.String(password) }

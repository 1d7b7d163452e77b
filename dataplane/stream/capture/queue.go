package capture

import (
	"sync"
	"time"
	"unsafe"

	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// Bounds of the audio that waits for the disk, as base64 text. A capture that is behind by more loses audio, and counts it.
const (
	maxQueued = 1 << 20
	// wakeAt is when the recorder is woken, which else looks now and then.
	wakeAt = 64 << 10
	// roomToKeep between two looks; more is given back.
	roomToKeep = 64 << 10
	// sharedMemory is what all captures of a pod share for audio that waits, in bytes: for the disk, or for its time.
	// Each has a little for itself.
	sharedMemory = 64 << 20
)

// SharedMemory is the memory that all captures of a pod share, in bytes.
const SharedMemory = sharedMemory

type kind uint8

const (
	fromCaller kind = iota
	fromAgent
	cleared
)

// entry is one message; its payload is the next length bytes of the batch's text.
type entry struct {
	at     time.Duration
	length int32
	kind   kind
}

type batch struct {
	entries []entry
	text    []byte
}

const entrySize = int(unsafe.Sizeof(entry{}))

// size is in bytes.
func (b batch) size() int { return len(b.text) + len(b.entries)*entrySize }

// queue is what the bridge told and the recorder has not written. It is the tap: nothing in it waits, and once it has grown to what a
// call needs nothing is allocated.
type queue struct {
	wake chan struct{}

	mu      sync.Mutex
	in      batch
	out     int // bytes that the recorder took last
	room    budget.Share
	dropped int64
	info    agentstream.StartInfo
	known   bool // info is
	closed  bool
}

// Caller takes what came from Exotel.
func (q *queue) Caller(payload []byte, at time.Duration) { q.add(fromCaller, payload, at) }

// Agent takes what Exotel was given.
func (q *queue) Agent(payload []byte, at time.Duration) { q.add(fromAgent, payload, at) }

// Clear takes that Exotel forgets what it has not played.
func (q *queue) Clear(at time.Duration) { q.add(cleared, nil, at) }

// add copies a payload into the queue. It never waits: audio over the bound is dropped and counted.
func (q *queue) add(k kind, payload []byte, at time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return
	case len(q.in.text)+len(payload) > maxQueued,
		len(q.in.entries) >= maxQueued/64,
		!q.room.Resize(int64(q.out + q.in.size() + entrySize + len(payload))):
		q.dropped++
		return
	}
	q.in.entries = append(q.in.entries, entry{
		at:     at,
		length: int32(len(payload)), //nolint:gosec // bounded above
		kind:   k,
	})
	q.in.text = append(q.in.text, payload...)
	if len(q.in.text) >= wakeAt {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// start stores the stream's start message, which has the sample rate.
func (q *queue) start(info agentstream.StartInfo) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.info = info
	q.known = true
}

// started returns the start message, if it has arrived.
func (q *queue) started() (agentstream.StartInfo, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.info, q.known
}

// take returns what waits, and how much was dropped since the last time. The room of old, which was taken last, is used again.
func (q *queue) take(old batch) (b batch, dropped int64) {
	if cap(old.text) > roomToKeep {
		old = batch{}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	b = q.in
	dropped = q.dropped
	q.in = batch{entries: old.entries[:0], text: old.text[:0]}
	q.dropped = 0
	q.out = b.size()
	q.room.Resize(int64(q.out))
	return b, dropped
}

// close lets nothing in any more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.in = batch{}
	q.out = 0
	q.room.Resize(0)
}

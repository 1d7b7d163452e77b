package bridge

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// Bounds of what waits for a slow side, in bytes. No number of frames is bounded: each costs its bytes and itemCost.
const (
	maxQueued       = 1 << 20   // of everything that waits for Exotel, and of media frames that wait for the agent
	maxControlBytes = 512 << 10 // of frames for the agent that are never dropped; an agent that lets more wait is lost
	itemCost        = 128       // what a frame takes in addition to its bytes
	// freeQueued is what each lane may hold in any case: seconds of audio. What is beyond it comes out of the memory that all calls share.
	freeQueued = 64 << 10
)

// SharedMemory is what the streams of a pod share for frames that wait for slow sides and for long messages in
// progress, in bytes. Each stream has a little of its own in addition to that.
const SharedMemory = 64 << 20

// lane carries one direction to its destination, in order. A frame is written directly while nothing waits; else it waits in the queue,
// which the link's goroutine empties.
//
// Toward Exotel the lane is patient: its sender, the agent's reader, waits until there is room. So an agent that speaks faster than
// Exotel's network takes it is not read, and TCP slows it down. The lane reads ahead by maxQueued bytes, or less where the calls together
// have used up their memory: a clear among these bytes acts at once. Toward the agent the lane never waits, since the caller speaks in
// real time.
//
// What is dropped: the oldest media, if more audio waits than the budget allows and the oldest has waited for as long. An agent that is
// ahead of real time is an exception: its audio is meant to wait, and none is dropped. Toward the agent the oldest goes whatever its age
// beyond maxQueued bytes, or where the calls together have used up their memory. A single frame always fits, as long as there is
// memory. Control frames are never dropped; too many bytes of them for the agent end the call.
//
// Clear drops all queued media, and every mark after such media: the mark would say that dropped audio was played.
// Marks without media in front stay, since the peer already has their audio. All other frames stay. The clear itself
// is queued after what stays. A clear directly after a clear is sent once.
type lane struct {
	budget time.Duration
	sink   sink
	outlet *outlet // nil if nobody listens
	room   budget.Share

	patient   bool         // the sender waits for room
	heldUntil atomic.Int64 // when the sender last waited, on this package's clock; forever while it does

	mu      sync.Mutex
	conn    *Conn // nil while there is no connection: everything waits
	queue   []item
	rate    int // bytes of audio in a second
	audio   int // bytes of audio that wait
	bytes   [2]int
	frames  [2]int
	flying  flight
	closing bool
	freed   *sync.Cond    // there may be room; nil unless the lane is patient
	due     time.Duration // when the destination has played all audio, if it plays each frame as soon as it was read
}

// The two classes of frames in the bounds above.
const (
	controls = iota
	media
)

// item is one frame that waits.
type item struct {
	kind   agentstream.Kind
	data   []byte
	audio  int           // bytes of audio inside
	came   time.Duration // when it was read
	early  bool          // the sender was ahead of real time
	close  int           // a close frame with this code, which gorilla writes
	reason string
}

// cost is what the item takes of the memory while it waits, in bytes.
func (i item) cost() int { return len(i.data) + itemCost }

// class returns the queue class of the item: media can be dropped, controls cannot.
func (i item) class() int {
	if i.kind == agentstream.Media {
		return media
	}
	return controls
}

// send passes a frame on, or keeps a copy. It waits only where the lane is patient. A connection that fails is left to its reader, who may
// have another one; the error says that there is none and too much waits for it.
func (l *lane) send(kind agentstream.Kind, frame []byte, audio int, came time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over() {
		return nil
	}
	if kind == agentstream.Clear {
		l.due = came
		if l.clear() {
			return nil
		}
	}
	i := item{kind: kind, data: frame, audio: audio, came: came}
	if l.patient {
		l.hold(i)
		if l.over() {
			return nil
		}
		i.early = l.play(audio, came)
	}
	if l.idle() {
		l.write(i)
		return nil
	}
	return l.enqueue(i)
}

// over reports whether nothing may be sent any more.
func (l *lane) over() bool { return l.closing || l.conn != nil && l.conn.parted.Load() }

// idle reports whether a frame can be written directly.
func (l *lane) idle() bool { return len(l.queue) == 0 && l.conn != nil && !l.conn.link.busy() }

// write hands the item to the link without queueing. A failed write fails the link, and the reader of the link ends
// the call.
func (l *lane) write(i item) {
	if _, err := l.conn.wire.Write(i.data); err != nil {
		l.conn.link.fail(err)
		l.sink.dropped(i.kind)
		return
	}
	if l.outlet != nil {
		l.outlet.passed(i.kind, i.data)
	}
	f := flight{bytes: len(i.data), came: i.came}
	if l.conn.link.busy() { // some of it waits; the link asks for more once it is written
		l.flying = f
		return
	}
	f.landed(&l.sink)
}

// flight is a frame that is being written.
type flight struct {
	bytes int // 0: there is none
	came  time.Duration
}

func (f flight) landed(s *sink) {
	if f.bytes > 0 {
		s.sent(f.bytes, now()-f.came)
	}
}

// enqueue queues an item. Where the lane is not patient, it drops old media to make room, and returns an error that ends the call when a
// control frame does not fit.
func (l *lane) enqueue(i item) error {
	if !l.patient {
		class := i.class()
		if class == controls && l.bytes[controls]+i.cost() > maxControlBytes {
			return l.tooMuch()
		}
		if !l.makeRoom(i.cost()) {
			if class == media {
				l.sink.dropped(i.kind)
				return nil
			}
			return l.tooMuch()
		}
	}
	i.data = bytes.Clone(i.data)
	l.queue = append(l.queue, i)
	l.account(i, 1)
	l.trim(i)
	return nil
}

// tooMuch waits that must not be dropped.
func (l *lane) tooMuch() error {
	if l.conn == nil {
		return errSlow
	}
	l.conn.link.fail(errSlow)
	return nil
}

// makeRoom drops the oldest media for as long as there is no memory for so many bytes more. It reports false when there is none even then.
func (l *lane) makeRoom(bytes int) bool {
	for !l.room.Resize(int64(l.waiting() + bytes)) {
		oldest := slices.IndexFunc(l.queue, func(i item) bool { return i.kind == agentstream.Media })
		if oldest < 0 {
			return false
		}
		l.drop(oldest)
	}
	return true
}

// waiting is in bytes.
func (l *lane) waiting() int { return l.bytes[controls] + l.bytes[media] }

// account keeps the totals; sign is 1 for an item that comes and -1 for one that goes.
func (l *lane) account(i item, sign int) {
	class := i.class()
	l.frames[class] += sign
	l.bytes[class] += sign * i.cost()
	l.audio += sign * i.audio
	l.room.Resize(int64(l.waiting()))
}

// trim drops the oldest media beyond the bounds, after last was queued.
func (l *lane) trim(last item) {
	allowed := int(l.budget * time.Duration(l.rate) / time.Second)
	for n := 0; n < len(l.queue) && l.frames[media] > 1; {
		i := l.queue[n]
		switch {
		case i.kind != agentstream.Media:
			n++
		case !l.patient && l.bytes[media] > maxQueued,
			!i.early && !last.early && l.audio > allowed && last.came-i.came >= l.budget:
			l.drop(n)
		default:
			return
		}
	}
}

// drop removes an item and counts it.
func (l *lane) drop(n int) {
	i := l.queue[n]
	l.account(i, -1)
	if n == 0 { // nothing has to move
		l.queue[0] = item{}
		l.queue = l.queue[1:]
	} else {
		l.queue = slices.Delete(l.queue, n, n+1)
	}
	l.sink.dropped(i.kind)
}

// clear empties the queue as its peer wants it. It returns true if the last frame that waits is a clear already.
func (l *lane) clear() bool {
	behind := false
	l.queue = slices.DeleteFunc(l.queue, func(i item) bool {
		behind = behind || i.kind == agentstream.Media
		stale := i.kind == agentstream.Media || i.kind == agentstream.Mark && behind
		if stale {
			l.account(i, -1)
			l.sink.dropped(i.kind)
		}
		return stale
	})
	last := len(l.queue) - 1
	return last >= 0 && l.queue[last].kind == agentstream.Clear
}

// closeWith has a close frame sent behind everything that waits. What comes later is left out.
func (l *lane) closeWith(code int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return
	}
	l.closing = true
	l.wake()
	switch {
	case l.conn == nil:
	case len(l.queue) == 0 && !l.conn.link.busy():
		l.writeClose(code, reason)
	default:
		l.queue = append(l.queue, item{kind: agentstream.Other, close: code, reason: reason})
	}
}

// writeClose sends a close frame within a second. Errors are ignored: the connection is closed next.
func (l *lane) writeClose(code int, reason string) {
	// Of no effect if gorilla has sent one already.
	_ = l.conn.ws.WriteControl(
		websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(time.Second),
	)
}

// attach gives the lane a connection, to which first goes before whatever waits.
func (l *lane) attach(c *Conn, first [][]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, frame := range first {
		if _, err := c.wire.Write(frame); err != nil {
			return err
		}
	}
	l.conn = c
	c.link.feed(func() bool { return l.next(c) })
	for len(l.queue) > 0 && !c.link.busy() {
		l.pop()
	}
	return nil
}

// detach takes the connection away: what comes waits.
func (l *lane) detach() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = nil
	l.flying = flight{}
}

// next writes what has waited longest. It is the link's goroutine that calls it, whenever nothing is pending.
func (l *lane) next(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == c {
		l.flying.landed(&l.sink)
		l.flying = flight{}
		if c.parted.Load() { // its peer closed, and was answered at once
			l.discard()
		}
	}
	if l.conn != c || len(l.queue) == 0 {
		rests := c.link.rest()
		l.wake()
		return !rests
	}
	l.pop()
	if l.waiting() <= maxQueued/2 { // not at each frame: a sender that wakes up reads some
		l.wake()
	}
	return true
}

// pop writes the first item that waits. A failure ends the link, which its reader notices.
func (l *lane) pop() {
	i := l.queue[0]
	l.queue[0] = item{}
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil // a side is slow once in a while: its call need not hold memory for it
	}
	if i.close != 0 {
		l.writeClose(i.close, i.reason)
		return
	}
	l.account(i, -1)
	l.write(i)
}

// release drops what waits at the end of the call, and gives its memory back.
func (l *lane) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = true
	l.discard()
	l.wake()
}

// discard drops what waits.
func (l *lane) discard() {
	for _, i := range l.queue {
		if i.close == 0 {
			l.account(i, -1)
			l.sink.dropped(i.kind)
		}
	}
	l.queue = nil
}

// setRate tells how many bytes of audio make a second.
func (l *lane) setRate(bytesPerSecond int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = bytesPerSecond
}

// counts returns the counts so far of the direction.
func (l *lane) counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sink.Counts
}

package upload

import (
	"sync"
	"time"

	md5simd "github.com/minio/md5-simd"
)

// lanes take the MD5 of all transfers at once in the lanes of the CPU's vector unit, where it has one: one MD5 after the other
// would be half of all the work of an upload. That pays only when many lanes are full at the same time, and bytes arrive
// transfer by transfer; so each one's are kept, and one that has no room left waits a moment for others to be ready too.
type lanes struct {
	server md5simd.Server

	mu     sync.Mutex
	open   int
	ready  []*lane       // with a full buffer
	hashed chan struct{} // closed when those that are ready have been hashed
	free   []*lane       // that were closed; a new one would leave its hash behind in the server for good
}

const (
	// laneBuffer is the length of a buffer; a lane has up to two.
	laneBuffer = 32 << 10
	// laneBatch is how many lanes are worth starting for: the vector unit takes 8 or 16 in the time of one or two.
	laneBatch = 8
	// laneWait bounds how long a transfer waits for others, and so what one is slowed down to: 32 MB/s.
	laneWait = time.Millisecond
)

// newLanes starts the MD5 server that all transfers share.
func newLanes() *lanes { return &lanes{server: md5simd.NewServer(), hashed: make(chan struct{})} }

// close may be called once all lanes are closed.
func (g *lanes) close() {
	for _, l := range g.free {
		l.hash.Close()
	}
	g.server.Close()
}

// lane is the MD5 of one transfer.
type lane struct {
	all  *lanes
	hash md5simd.Hasher
	wait *time.Timer
	// filling is what came since full, which waits to be hashed together with other lanes'. full is guarded by all.mu.
	filling, full []byte
	// used reports whether the hash was written to.
	used bool
}

// lane opens one. It must be closed.
func (g *lanes) lane() *lane {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open++
	if n := len(g.free); n > 0 {
		l := g.free[n-1]
		g.free = g.free[:n-1]
		return l
	}
	l := &lane{all: g, hash: g.server.NewHash(), wait: time.NewTimer(time.Hour), filling: make([]byte, 0, laneBuffer)}
	l.wait.Stop()
	return l
}

// Write keeps a copy of p.
func (l *lane) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(l.filling) == laneBuffer {
			l.turn()
		}
		m := copy(l.filling[len(l.filling):laneBuffer], p)
		l.filling = l.filling[:len(l.filling)+m]
		p = p[m:]
	}
	return n, nil
}

// turn puts the buffer that is full among those that are ready, and goes on with the other one, once that is hashed.
func (l *lane) turn() {
	lanes := l.all
	lanes.mu.Lock()
	defer lanes.mu.Unlock()
	if l.full == nil {
		l.full = make([]byte, 0, laneBuffer)
	}
	if len(l.full) > 0 && len(lanes.ready) < min(laneBatch, lanes.open) {
		l.awaitOthers()
	}
	if len(l.full) > 0 {
		lanes.hashReady()
	}
	l.filling, l.full = l.full, l.filling
	lanes.ready = append(lanes.ready, l)
}

// awaitOthers gives the lock back meanwhile.
func (l *lane) awaitOthers() {
	hashed := l.all.hashed
	l.all.mu.Unlock()
	l.wait.Reset(laneWait)
	select {
	case <-hashed:
	case <-l.wait.C:
	}
	l.wait.Stop()
	l.all.mu.Lock()
}

// hashReady hands every full buffer to the vector unit, which takes them together while more are being handed over. The lock
// is held.
func (g *lanes) hashReady() {
	for i, l := range g.ready {
		_, _ = l.hash.Write(l.full) // no hash ever fails
		l.full = l.full[:0]
		l.used = true
		g.ready[i] = nil
	}
	g.ready = g.ready[:0]
	close(g.hashed)
	g.hashed = make(chan struct{})
}

// sum of all that was written.
func (l *lane) sum() []byte {
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	l.settle()
	_, _ = l.hash.Write(l.filling)
	l.filling = l.filling[:0]
	l.used = true
	return l.hash.Sum(nil)
}

// settle sees to it that no buffer of this lane is among those that are ready. The lock is held.
func (l *lane) settle() {
	if len(l.full) > 0 {
		l.all.hashReady()
	}
}

// close gives the lane back. No Write may be under way, and none may follow.
func (l *lane) close() {
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	l.settle()
	if l.used { // a hash that is reset again and again, and never written, would wait for its server for ever
		l.hash.Reset()
	}
	l.used = false
	l.filling = l.filling[:0]
	l.all.open--
	l.all.free = append(l.all.free, l)
}

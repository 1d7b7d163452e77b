package upload

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// gate stands between an HTTP transport and the body it sends. The transport may go on reading after its call returned;
// a closed gate lets nothing through, so that what is behind it can be used again. It also notices a store that stops
// taking bytes.
type gate struct {
	mu     sync.Mutex
	r      io.Reader
	closed bool
	timer  *time.Timer
	after  time.Duration
}

var (
	errGateClosed     = errors.New("the transfer has ended")
	errStorageStalled = errors.New("the object store took no byte for too long")
)

// newGate calls cancel with errStorageStalled when, between two Reads, more than after goes by.
func newGate(r io.Reader, after time.Duration, cancel context.CancelCauseFunc) *gate {
	g := &gate{r: r, after: after}
	g.timer = time.AfterFunc(after, func() { cancel(errStorageStalled) })
	return g
}

// Read stops the clock while the source is asked; after the end, the transport's own time-out for the answer counts.
func (g *gate) Read(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, errGateClosed
	}
	g.timer.Stop()
	n, err := g.r.Read(p)
	if err == nil {
		g.timer.Reset(g.after)
	}
	return n, err
}

// progress notes that the store took bytes, and whether there are more for it. After the last of them the transport's
// own time-out for the answer counts.
func (g *gate) progress(more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer.Stop()
	if more && !g.closed {
		g.timer.Reset(g.after)
	}
}

// close waits for a Read under way.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.timer.Stop()
}

// Package registry is a pod's registry of audio streams: it lets them in, keeps their rows alive, and ends them when somebody wants that.
package registry

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// Errors of Admit, in addition to those of the store.
var (
	// ErrTenantLimit means that the tenant has as many streams as it may, over all pods.
	ErrTenantLimit = errors.New("the tenant has as many streams as it may")
	// ErrPodLimit is returned while this pod has as many streams as it may, in all or of one namespace. Another pod may
	// have room.
	ErrPodLimit = errors.New("the pod has as many streams as it may, in all or of one namespace")
	// ErrDraining means that this pod is shutting down.
	ErrDraining = errors.New("the pod is shutting down")
	// ErrTokenUsed means that an earlier stream used the one-time token.
	ErrTokenUsed = errors.New("the one-time token was used before")
)

// Stream is what is known of a stream before it starts.
type Stream struct {
	CallSID string
	Address netip.Addr
	// Agent is a host.
	Agent string
	// TokenID of the one-time token that it came with; empty without one.
	TokenID string
	// Captured reports whether the stream is captured. The stream's row says so from the start. If the pod dies before
	// the capture has its own row, the capture is known to be lost.
	Captured bool
}

// The cuts: why the registry ends a stream.
var (
	cutSuspended = &bridge.Cut{Reason: bridge.Suspended, Code: websocket.ClosePolicyViolation}
	cutClosed    = &bridge.Cut{Reason: bridge.Closed, Code: websocket.CloseNormalClosure}
	cutOrphaned  = &bridge.Cut{Reason: bridge.Orphaned}
	cutOld       = &bridge.Cut{Reason: bridge.Limit, Code: websocket.CloseNormalClosure}
	cutDrained   = &bridge.Cut{Reason: bridge.Drained}
)

// Live is a stream that was let in. It must be ended.
type Live struct {
	registry *Registry
	ref      store.StreamRef
	uid      string // of the Tenant
	began    time.Time
	ctx      context.Context
	cancel   context.CancelCauseFunc

	mu                 sync.Mutex
	callSID, streamSID string
	measure            func() (toAgent, toExotel bridge.Counts)
	cut                bridge.Reason // the first for which the registry wanted its end
	ended              bool
	row                bool // it has one
	told               bool // and knows which call it is of
}

// ID of the session.
func (l *Live) ID() string { return l.ref.ID }

// Context is cancelled, with an *audio.Cut as its cause, when the stream must end: its tenant is suspended or deleted,
// a person closed it, its row is deleted, or the pod drains beyond its grace.
func (l *Live) Context() context.Context { return l.ctx }

// CallSID returns the call as far as it is known: from the one-time token, or once the stream has started.
func (l *Live) CallSID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.callSID
}

// Started notes what Exotel told of the stream, for its row. It does not wait.
func (l *Live) Started(info agentstream.StartInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if info.CallSID != "" {
		l.callSID = store.BoundedSID(info.CallSID)
	}
	l.streamSID = store.BoundedSID(info.StreamSID)
}

// Measured tells how to ask the stream for its counts, which every heartbeat writes from then on.
func (l *Live) Measured(counts func() (toAgent, toExotel bridge.Counts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measure = counts
}

// End ends the session; nil is a stream that had no bridge. When the database does not answer before ctx is over, or in 5 s, the end is
// written later. Once is enough.
func (l *Live) End(ctx context.Context, e *bridge.End) {
	end, first := l.finish(e)
	if !first {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.registry.o.EndWithin)
	defer cancel()
	l.registry.end(ctx, end)
	l.registry.forget(l)
}

// finish takes the end that counts: the first.
func (l *Live) finish(e *bridge.End) (end store.StreamEnd, first bool) {
	if e != nil {
		l.Started(e.Start)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return end, false
	}
	l.ended = true
	l.cancel(nil)
	end = store.StreamEnd{
		StreamRef: l.ref,
		CallSID:   l.callSID,
		StreamSID: l.streamSID,
		At:        time.Now(),
		Reason:    reason.StreamFailed,
	}
	switch {
	case e != nil: // one that ended by itself just before it was cut off says so
		end.Reason = string(e.Reason)
		end.Reconnected = e.Reconnected
		end.ToAgent = countsOf(e.ToAgent)
		end.ToExotel = countsOf(e.ToExotel)
	case l.cut != "":
		end.Reason = string(l.cut)
	}
	return end, true
}

func countsOf(c bridge.Counts) store.StreamCounts {
	return store.StreamCounts{
		Frames:  int64(c.Frames),  //nolint:gosec // nobody counts that far
		Bytes:   int64(c.Bytes),   //nolint:gosec // nobody counts that far
		Dropped: int64(c.Dropped), //nolint:gosec // nobody counts that far
	}
}

// stop cancels the stream; the first time counts.
func (l *Live) stop(c *bridge.Cut) (first bool) {
	l.mu.Lock()
	first = l.cut == "" && !l.ended
	if first {
		l.cut = c.Reason
	}
	l.mu.Unlock()
	if first {
		l.cancel(c)
	}
	return first
}

// admitted tells whether the row is there; where none is yet, none is missing.
func (l *Live) admitted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.row
}

// untold tells whether the row does not know yet what Exotel told of the stream.
func (l *Live) untold() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.row && !l.told && l.streamSID != ""
}

// tell notes that the row knows what the heartbeat says.
func (l *Live) tell(b store.StreamBeat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = l.told || b.StreamSID != ""
}

func (l *Live) beat() store.StreamBeat {
	l.mu.Lock()
	b := store.StreamBeat{StreamRef: l.ref, CallSID: l.callSID, StreamSID: l.streamSID}
	measure := l.measure
	l.mu.Unlock()
	if measure != nil { // with the lock free: it is the stream's own code
		toAgent, toExotel := measure()
		b.ToAgent = countsOf(toAgent)
		b.ToExotel = countsOf(toExotel)
	}
	return b
}

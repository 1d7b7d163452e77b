// Package bridge bridges Exotel's audio streams to the agents of tenants.
package bridge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// Options of one bridge. Zero durations are the defaults.
type Options struct {
	// Budget of audio that may wait for a slow side; 200 ms by default. See lane for what is dropped.
	Budget time.Duration
	// PingEvery is how often both sides are asked whether they live; 20 s by default.
	PingEvery time.Duration
	// PongWithin is how long after that a side must have sent anything at all; 10 s by default, and at most PingEvery.
	PongWithin time.Duration
	// CloseWithin bounds the end: what waits is written, and the peers' close frames are waited for; 2 s by default.
	CloseWithin time.Duration
	// SampleRate counts until start tells one; 8000 by default.
	SampleRate int
	// Codec translates for the agent. Nil relays as it comes, without a look at the audio.
	Codec agent.Codec
	// Redial connects to the agent again after its connection broke; nil if the tenant does not want it.
	Redial func(context.Context) (*Conn, error)
	// RedialWithin bounds that; 3 s by default.
	RedialWithin time.Duration
	// Observer is told what happens. All bridges share one.
	Observer *Observer
	// Started is called with what Exotel told of the stream, before the agent gets it. It must not wait.
	Started func(agentstream.StartInfo)
	// Tap is told of the call's audio; nil if nobody listens.
	Tap Tap
	// Memory is what all bridges share for what waits; nil has no bound but each bridge's own.
	Memory *budget.Budget
}

// silent is the observer of bridges that have none.
var silent = newObserver(Observer{})

// setDefaults replaces zero and negative values. PongWithin is never longer than PingEvery.
func (o *Options) setDefaults() {
	defaultTo := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	defaultTo(&o.Budget, 200*time.Millisecond)
	defaultTo(&o.PingEvery, 20*time.Second)
	defaultTo(&o.PongWithin, 10*time.Second)
	o.PongWithin = min(o.PongWithin, o.PingEvery)
	defaultTo(&o.CloseWithin, 2*time.Second)
	defaultTo(&o.RedialWithin, 3*time.Second)
	if o.SampleRate <= 0 {
		o.SampleRate = 8000
	}
	if o.Started == nil {
		o.Started = func(agentstream.StartInfo) {}
	}
	if o.Observer == nil {
		o.Observer = silent
	}
}

// Bridge is one call between Exotel and an agent. It runs in two goroutines, one for each socket that is read; a third lives only while
// a side is slow.
type Bridge struct {
	o      Options
	exotel *Conn
	agent  atomic.Pointer[Conn] // another one after a reconnect

	toAgent, toExotel lane
	fromExotel        inbound
	fromAgent         inbound

	opening opening // of Exotel's reader and, after it lost its connection, of the agent's
	pulse   pulse
	reader  sync.WaitGroup // of the agent's socket

	mu       sync.Mutex
	verdict  *verdict           // the first one counts
	deadline time.Time          // of the end
	cancel   context.CancelFunc // of a redial
	ended    atomic.Bool
	again    bool // there was a second connection
}

// New makes a bridge, which runs once.
func New(o Options) *Bridge {
	o.setDefaults()
	b := &Bridge{o: o}
	b.toAgent = lane{budget: o.Budget, sink: sink{observer: &o.Observer.ToAgent}, room: o.Memory.Share(freeQueued)}
	b.toExotel = lane{
		budget: o.Budget,
		sink:   sink{observer: &o.Observer.ToExotel},
		outlet: outletOf(o.Tap),
		room:   o.Memory.Share(freeQueued),
	}
	b.toExotel.holding()
	b.fromAgent.scanner.FromAgent = true
	b.setRate(b.o.SampleRate)
	return b
}

// Run relays until the call ends, and closes both connections. The context cuts it off, see Cut.
func (b *Bridge) Run(ctx context.Context, exotel, agentConn *Conn) *End {
	b.relay(ctx, exotel, agentConn)
	return b.report()
}

// relay passes frames in both directions until the call ends, ctx is done or one of the connections fails.
func (b *Bridge) relay(ctx context.Context, exotel, agentConn *Conn) {
	b.exotel = exotel
	b.agent.Store(agentConn)
	_ = b.toExotel.attach(exotel, nil) // nothing is written, so nothing fails
	_ = b.toAgent.attach(agentConn, nil)
	stop := context.AfterFunc(ctx, func() { b.end(cutOf(ctx)) })
	b.pulse.start(b)
	b.reader.Go(func() { b.readAgent(ctx, agentConn) })
	b.readExotel()
	b.reader.Wait()
	b.pulse.stop()
	stop()
	b.part()
}

// part closes both connections, once what still waits for them is written: the close frame is behind it.
func (b *Bridge) part() {
	sides := []*Conn{b.exotel, b.agent.Load()}
	for _, c := range sides {
		c.link.flush(b.deadline)
	}
	for _, c := range sides {
		_ = c.Close()
	}
	b.toAgent.release()
	b.toExotel.release()
}

// report returns how the call ended, with the counts of both directions.
func (b *Bridge) report() *End {
	b.mu.Lock()
	defer b.mu.Unlock()
	verdict := b.verdict
	end := &End{
		Reason:      verdict.reason,
		Side:        verdict.side,
		Code:        verdict.code,
		Err:         verdict.err,
		Start:       b.opening.info,
		Reconnected: b.again,
	}
	end.ToAgent, end.ToExotel = b.Counts()
	for i := range end.Oddities {
		end.Oddities[i] = b.fromExotel.oddities[i] + b.fromAgent.oddities[i]
	}
	return end
}

// Counts are those of both directions until now. Anybody may ask, at any time: it takes what the frames count anyway.
func (b *Bridge) Counts() (toAgent, toExotel Counts) {
	toAgent = b.toAgent.counts()
	toExotel = b.toExotel.counts()
	toAgent.Refused = b.fromExotel.refused.Load()
	toExotel.Refused = b.fromAgent.refused.Load()
	return toAgent, toExotel
}

// end tells both sides, behind everything that waits for them. The readers go on until the sides have closed, or CloseWithin is over.
func (b *Bridge) end(v verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.verdict != nil {
		return
	}
	b.verdict = &v
	b.ended.Store(true)
	if b.cancel != nil {
		b.cancel()
	}
	b.deadline = time.Now().Add(b.o.CloseWithin)
	b.toExotel.closeWith(v.exotelCode, string(v.reason))
	b.toAgent.closeWith(v.agentCode, string(v.reason))
	b.exotel.stopReading(b.deadline)
	b.agent.Load().stopReading(b.deadline)
}

// setRate tells the lanes how much audio the budget is; 16-bit mono.
func (b *Bridge) setRate(hertz int) {
	b.toAgent.setRate(2 * hertz)
	b.toExotel.setRate(2 * hertz)
}

package bridge

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// maxOpening bounds the messages that are kept for a second connection.
const maxOpening = 16 << 10

// opening is how the stream began, which a second agent must be told.
type opening struct {
	mu       sync.Mutex // the codec's too: it starts again for a second connection, while Exotel's frames come
	info     agentstream.StartInfo
	messages [][]byte
	started  bool
	tooLong  bool
	codec    atomic.Bool // it was opened, and may be asked for the agent's frames
}

// keep remembers a message for a second connection.
func (o *opening) keep(raw []byte, wanted bool) {
	if !wanted {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case len(raw) > maxOpening:
		o.tooLong = true
	case len(o.messages) < 2: // connected and start
		o.messages = append(o.messages, bytes.Clone(raw))
	}
}

// start learns what the stream is. Only the first start counts; another one is passed on as it is.
func (b *Bridge) start(m agentstream.Message) error {
	b.opening.mu.Lock()
	again := b.opening.started
	b.opening.started = true
	b.opening.mu.Unlock()
	if again {
		return nil
	}
	info, err := agentstream.ParseStart(m.Raw)
	if err != nil {
		return err
	}
	b.opening.mu.Lock()
	if info.SampleRate == 0 {
		info.SampleRate = b.o.SampleRate
	}
	b.opening.info = info
	b.opening.mu.Unlock()
	b.opening.keep(m.Raw, b.o.Redial != nil)
	b.setRate(info.SampleRate)
	b.o.Started(info)
	return nil
}

// apart runs what needs a deep stack in a goroutine of its own, and waits for it: a goroutine that reads a socket for an hour keeps the
// stack that it once needed, which is a quarter of an idle call's memory.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return <-done
}

// open has the codec begin, and sends what the agent gets first. A stream that begins with audio has only its id and the default rate.
func (b *Bridge) open(m agentstream.Message) error {
	b.opening.mu.Lock()
	if !b.opening.started {
		b.opening.info.StreamSID = string(m.StreamSID)
		b.opening.info.SampleRate = b.o.SampleRate
	}
	frames, err := b.o.Codec.Open(b.opening.info)
	b.opening.mu.Unlock()
	if err != nil {
		return err
	}
	b.opening.codec.Store(true)
	for _, f := range sealAll(frames) {
		if err := b.toAgent.send(agentstream.Start, f, 0, b.exotel.came); err != nil {
			return err
		}
	}
	return nil
}

// sealAll makes frames toward the agent.
func sealAll(frames []agent.Frame) (sealed [][]byte) {
	for _, f := range frames {
		room := append(make([]byte, maxHeader, maxHeader+len(f.Data)), f.Data...)
		sealed = append(sealed, seal(room, maxHeader, opcode(f.Binary), true))
	}
	return sealed
}

// first is what a second agent gets before everything else.
func (b *Bridge) first() ([][]byte, error) {
	b.opening.mu.Lock()
	defer b.opening.mu.Unlock()
	if b.o.Codec != nil {
		if !b.opening.codec.Load() {
			return nil, nil
		}
		frames, err := b.o.Codec.Open(b.opening.info)
		return sealAll(frames), err
	}
	var frames []agent.Frame
	for _, m := range b.opening.messages {
		frames = append(frames, agent.Frame{Data: m})
	}
	return sealAll(frames), nil
}

// redial connects to the agent again, if the connection broke and the tenant wants it. Meanwhile audio waits, within
// its budget.
func (b *Bridge) redial(ctx context.Context, v verdict) *Conn {
	if v.reason != AgentLost || b.o.Redial == nil || b.opening.cannotRepeat() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.o.RedialWithin)
	defer cancel()
	b.mu.Lock()
	if b.verdict != nil || b.again {
		b.mu.Unlock()
		return nil
	}
	b.again = true
	b.cancel = cancel
	b.mu.Unlock()
	b.toAgent.detach()
	_ = b.agent.Load().Close()
	conn, err := b.o.Redial(ctx)
	if err != nil {
		return nil
	}
	if !b.resume(conn) {
		_ = conn.Close()
		return nil
	}
	return conn
}

// resume puts a second connection in the first one's place.
func (b *Bridge) resume(c *Conn) bool {
	first, err := b.first()
	if err != nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.verdict != nil || b.toAgent.attach(c, first) != nil {
		return false
	}
	c.heard.Store(int64(now()))
	b.agent.Store(c)
	return true
}

// cannotRepeat reports whether the opening messages were too long to store, so that a second agent connection could
// not get them.
func (o *opening) cannotRepeat() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tooLong
}

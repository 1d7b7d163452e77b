package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// maxRefused is how many malformed frames in a row are left out before the peer counts as one that speaks something else.
const maxRefused = 16

// goodWithin is how long after a good frame an agent may send any number of malformed ones: it speaks its protocol, with mistakes.
const goodWithin = 10 * time.Second

// inbound is what one side's reader knows of its frames.
type inbound struct {
	scanner  agentstream.Scanner
	oddities [agentstream.Oddities]uint32 // a session's frames at 50 a second reach 2^32 after years
	refused  atomic.Uint64                // its reader alone adds to it
	inRow    uint32
	good     time.Duration // when the last good frame came; 0: none
}

// readExotel reads Exotel's socket to its end.
func (b *Bridge) readExotel() {
	for {
		frame, err := b.exotel.next()
		if err == nil && !b.ended.Load() {
			err = b.exotelSent(frame)
		}
		if err != nil {
			b.end(exotelEnded(b.exotel.why(err)))
			return
		}
	}
}

// exotelSent passes a frame on. Its error ends the call.
func (b *Bridge) exotelSent(f frame) error {
	message, err := b.fromExotel.scan(f, b.o.Observer)
	if err != nil {
		return b.fromExotel.refuse(f, err, b.exotel.came, &b.o.Observer.ToAgent)
	}
	b.fromExotel.inRow = 0
	switch message.Kind {
	case agentstream.Connected:
		b.opening.keep(message.Raw, b.o.Redial != nil)
	case agentstream.Start:
		if err := apart(func() error { return b.start(message) }); err != nil {
			return err
		}
	case agentstream.Media:
		if b.o.Tap != nil {
			b.o.Tap.Caller(message.Payload, b.exotel.came)
		}
	}
	if err := b.forward(f, message); err != nil {
		b.end(agentEnded(err))
		return nil
	}
	if message.Kind == agentstream.Stop {
		b.end(callEnded())
	}
	return nil
}

// forward sends a message to the agent, translated where it speaks another protocol.
func (b *Bridge) forward(f frame, m agentstream.Message) error {
	audio := m.AudioBytes()
	if b.o.Codec == nil {
		return b.toAgent.send(m.Kind, seal(f.buf, f.at, opText, true), audio, b.exotel.came)
	}
	return b.translate(m, audio)
}

// readAgent reads the agent's socket to its end, and a second one's if there is one.
func (b *Bridge) readAgent(ctx context.Context, c *Conn) {
	for {
		frame, err := c.next()
		if err == nil && !b.ended.Load() {
			err = b.agentSent(c, frame)
		}
		if err == nil {
			continue
		}
		verdict := agentEnded(c.why(err))
		if c = b.redial(ctx, verdict); c == nil {
			b.end(verdict)
			return
		}
	}
}

// agentSent passes a frame on. Its error ends the agent's connection.
func (b *Bridge) agentSent(c *Conn, f frame) error {
	if b.o.Codec != nil {
		return b.translateBack(c, f)
	}
	message, err := b.fromAgent.scan(f, b.o.Observer)
	if err != nil {
		return b.fromAgent.refuse(f, err, c.came, &b.o.Observer.ToExotel)
	}
	b.fromAgent.inRow = 0
	b.fromAgent.good = c.came
	b.speak(c, message.Kind, seal(f.buf, f.at, opText, false), message.AudioBytes())
	return nil
}

// speak sends a frame of the agent to Exotel. While too much waits there, it waits, and the agent is not read. That time is not the
// agent's.
func (b *Bridge) speak(c *Conn, kind agentstream.Kind, frame []byte, audio int) {
	before := c.came
	if err := b.toExotel.send(kind, frame, audio, before); err != nil {
		b.end(exotelEnded(err))
		return
	}
	if b.toExotel.heldSince(before) {
		c.came = now()
		c.heard.Store(int64(c.came))
	}
}

// scan counts what is odd about a frame.
func (in *inbound) scan(f frame, o *Observer) (agentstream.Message, error) {
	message, err := in.scanner.Scan(f.payload())
	if err != nil {
		return message, err
	}
	if f.op == opBinary {
		message.Oddities |= agentstream.BinaryFrame
	}
	if message.Oddities != 0 {
		message.Oddities.Each(func(i int) {
			in.oddities[i]++
			o.Oddities[i].Add(1)
		})
	}
	return message, nil
}

// refuse leaves a malformed frame out. Text that is not UTF-8 ends the connection at once, as RFC 6455 section 8.1 demands; other
// mistakes do when there are too many in a row, unless the agent sent a good frame shortly before.
func (in *inbound) refuse(f frame, err error, at time.Duration, o *DirectionObserver) error {
	in.refused.Add(1)
	o.Refused.Add(1)
	if f.op == opText && !utf8.Valid(f.payload()) {
		return fmt.Errorf("%w: a text frame that is not UTF-8", errMalformed)
	}
	if in.inRow++; in.inRow >= maxRefused && (in.good == 0 || at-in.good > goodWithin) {
		return fmt.Errorf("%w: %d in a row: %w", errMalformed, in.inRow, err)
	}
	return nil
}

// translate sends what a message becomes in the agent's protocol.
func (b *Bridge) translate(m agentstream.Message, audio int) error {
	if !b.opening.codec.Load() && (m.Kind == agentstream.Start || m.Kind == agentstream.Media) {
		if err := apart(func() error { return b.open(m) }); err != nil {
			return err
		}
	}
	if !b.opening.codec.Load() || m.Kind == agentstream.Start {
		return nil // the codec has nothing to say before a stream, and has told its agent of this one
	}
	out := takeBuffer(smallBuffer)
	defer out.give()
	b.opening.mu.Lock()
	data, binary, send, err := b.o.Codec.FromExotel(out.b[:maxHeader], m)
	b.opening.mu.Unlock()
	switch {
	case errors.Is(err, agent.ErrFrame):
		b.fromExotel.refused.Add(1)
		b.o.Observer.ToAgent.Refused.Add(1)
		return nil
	case err != nil:
		return err
	case !send:
		return nil
	}
	return b.toAgent.send(m.Kind, seal(data, maxHeader, opcode(binary), true), audio, b.exotel.came)
}

// translateBack sends what an agent's frame becomes to Exotel.
func (b *Bridge) translateBack(c *Conn, f frame) error {
	if !b.opening.codec.Load() {
		return nil // there is no stream yet that an agent could speak to
	}
	out := takeBuffer(smallBuffer)
	defer out.give()
	o, err := b.o.Codec.FromAgent(out.b[:maxHeader], f.payload(), f.op == opBinary)
	if err != nil {
		return b.fromAgent.refuse(f, err, c.came, &b.o.Observer.ToExotel)
	}
	b.fromAgent.inRow = 0
	b.fromAgent.good = c.came
	b.pass(c, o)
	for o.More {
		if o, err = b.o.Codec.More(out.b[:maxHeader]); err != nil {
			return b.fromAgent.refuse(f, err, c.came, &b.o.Observer.ToExotel)
		}
		b.pass(c, o)
	}
	if o.Kind == agentstream.Stop {
		b.end(agentAsked())
	}
	return nil
}

// pass sends Exotel what an agent's frame became.
func (b *Bridge) pass(c *Conn, o agent.Out) {
	if o.Send {
		audio := 0
		if o.Kind == agentstream.Media {
			audio = (len(o.Frame) - maxHeader) * 3 / 4 // about: the text around it is short
		}
		b.speak(c, o.Kind, seal(o.Frame, maxHeader, opText, false), audio)
	}
}

// opcode returns the WebSocket opcode of a message.
func opcode(binary bool) byte {
	if binary {
		return opBinary
	}
	return opText
}

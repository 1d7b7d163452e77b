package bridge

import (
	"time"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// Tap receives a call's audio as it passes: what came from Exotel, and what was passed on to Exotel. Audio that was
// dropped or cleared from a queue is left out. The bridge calls the methods concurrently and on the audio's way: they
// must not wait. A payload is the base64 text of a media message and lives until the method returns; times are those
// of Now.
type Tap interface {
	Caller(payload []byte, at time.Duration)
	Agent(payload []byte, at time.Duration)
	// Clear notes that Exotel was told to discard what it has not played yet.
	Clear(at time.Duration)
}

// Now is the clock of taps: monotonic, the same for all calls of this process.
func Now() time.Duration { return now() }

// outlet tells a Tap what a lane passed on. The lane's lock guards it.
type outlet struct {
	Tap
	scanner agentstream.Scanner
}

// outletOf returns what feeds the tap, or nil without a tap.
func outletOf(t Tap) *outlet {
	if t == nil {
		return nil
	}
	return &outlet{Tap: t, scanner: agentstream.Scanner{FromAgent: true}}
}

// passed reports to the tap a frame that was written to the peer or its connection.
func (o *outlet) passed(kind agentstream.Kind, frame []byte) {
	switch kind {
	case agentstream.Clear:
		o.Clear(now())
	case agentstream.Media:
		header, ok := parseHeader(frame)
		if !ok {
			return
		}
		if message, err := o.scanner.Scan(frame[header.size:]); err == nil {
			o.Agent(message.Payload, now())
		}
	}
}

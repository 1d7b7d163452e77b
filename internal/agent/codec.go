// Package agent knows the protocols that a tenant's agent may speak, and translates between them and Exotel's.
package agent

import (
	"errors"
	"fmt"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// Protocol of a tenant's agent.
type Protocol string

// Protocols.
const (
	// Exotel is Exotel's own protocol, which the bridge relays as it comes.
	Exotel Protocol = "exotel"
	// Twilio is that of Twilio Media Streams: mu-law at 8 kHz in JSON.
	Twilio Protocol = "twilio"
	// PCM is binary frames of 16-bit little-endian samples at the call's own rate, with small JSON text frames between
	// them.
	PCM Protocol = "pcm"
)

// Errors that the bridge tells apart. After ErrFrame the stream can go on: the frame is to be counted and left out.
var (
	// ErrProtocol says that there is no such protocol.
	ErrProtocol = errors.New("unknown agent protocol")
	// ErrRate says that a call has a sample rate that cannot be translated.
	ErrRate = errors.New("unsupported sample rate")
	// ErrFrame says that a frame is not what its protocol asks for.
	ErrFrame = errors.New("malformed frame")
)

// Frame is one WebSocket message.
type Frame struct {
	Data   []byte
	Binary bool
}

// Out is what a frame of the agent becomes.
type Out struct {
	// Kind is Media, Mark, Clear, or Stop when the agent asks to end the stream. Other is to be counted, and has no frame.
	Kind agentstream.Kind
	// Frame is what Exotel gets, a text message: dst with the message appended. There is something to send only where Send is true.
	Frame []byte
	// Send tells that there is a frame to send.
	Send bool
	// More tells that the frame has more for Exotel, which Codec.More returns.
	More bool
}

// Codec translates one stream between Exotel and an agent. FromExotel and FromAgent may run concurrently, each in one
// goroutine at a time. Open runs before both, and again before a second connection to the agent, for which the codec
// starts again. Results are valid until the next call of the same method, except through dst. In steady state nothing
// is allocated.
type Codec interface {
	// Open returns what the agent gets first.
	Open(start agentstream.StartInfo) ([]Frame, error)
	// FromExotel appends to dst what the agent gets for a message. An audio message too short for one sample has nothing to send yet.
	FromExotel(dst []byte, m agentstream.Message) (frame []byte, binary, send bool, err error)
	// FromAgent appends to dst what Exotel gets for a frame of the agent.
	// Audio that is longer than Exotel takes in one message comes in pieces.
	FromAgent(dst, frame []byte, binary bool) (Out, error)
	// More appends to dst the next piece of the frame that FromAgent was given last.
	More(dst []byte) (Out, error)
}

// New returns the codec of one stream. Of the Exotel protocol it is nil: nothing is to be translated.
func New(p Protocol) (Codec, error) {
	switch p {
	case Exotel:
		return nil, nil //nolint:nilnil // nil is the codec that changes nothing, see above
	case Twilio:
		return &twilio{}, nil
	case PCM:
		return &pcm{}, nil
	}
	return nil, fmt.Errorf("%w %q: use exotel, twilio or pcm", ErrProtocol, p)
}

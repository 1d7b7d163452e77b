package exotelsim

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Quoting of the numbers in a stream's messages. Exotel's documents show both.
type Quoting string

// Quotings.
const (
	Numbers Quoting = "numbers"
	Strings Quoting = "strings"
)

// Stream is the audio stream of one call, from Exotel's side: a WebSocket client. Only URL and Audio must be set.
type Stream struct {
	// URL is what stands in the applet: ws or wss, or http or https for an endpoint that answers {"url": "wss://..."}. Its user becomes
	// Basic credentials; its query, but for sample-rate, becomes the custom parameters.
	URL string
	// CallSID, StreamSID, AccountSID, From and To as Exotel tells them; each has a default, the first two a new one for each Run.
	CallSID, StreamSID, AccountSID, From, To string
	// Rate in samples a second: 8000, 16000 or 24000; 0 means 8000. The others are asked for with sample-rate in the query.
	Rate int
	// Audio is 16-bit little-endian PCM at that rate. It is repeated when Duration is longer, and cut when it is shorter.
	Audio []byte
	// Duration of the talk; 0 means Audio once.
	Duration time.Duration
	// Pace is a frame's length, and the time between two: 20 or 100 ms. 0 means 20 ms.
	Pace time.Duration
	// Linger is how long to wait, after the talk, for as many bytes to have come back as were sent. 0: not at all.
	Linger time.Duration
	// Expect is what comes back for Audio, as long as Audio, when the agent is an echo. nil: nothing is compared.
	Expect []byte
	// Keep what came back in the Report.
	Keep bool
	// Digits are pressed one after the other, one with each tenth frame.
	Digits string
	// Quoting of numbers; empty means Numbers.
	Quoting Quoting
	// Quirks are what else can be different.
	Quirks StreamQuirks
	// TLS trusts what a test needs; nil means the system's roots.
	TLS *tls.Config
}

// StreamQuirks of the sender, or of the line to it.
type StreamQuirks struct {
	// CamelCase writes streamSid, sequenceNumber and so on.
	CamelCase bool
	// NoConnected begins with start.
	NoConnected bool
	// Binary sends the JSON in binary frames.
	Binary bool
	// ExtraKeys adds keys that nobody knows, nested ones too.
	ExtraKeys bool
	// OddSizes ends every other frame in the middle of a sample, and begins the next one there.
	OddSizes bool
	// MarksOnClear sends the marks of dropped audio back at once, as Twilio does. Nobody wrote down what Exotel does; else they are lost
	// with the audio.
	MarksOnClear bool
	// ReadDelay is a pause after each frame that is read, with a receive buffer as small as the system gives.
	ReadDelay time.Duration
	// DropAfter is the number of frames after which the connection ends without a close.
	DropAfter int
	// DeadAfter is the number of frames after which the stream neither reads nor sends, while the connection stays.
	// After DeadFor it reads again.
	DeadAfter int
	DeadFor   time.Duration
}

// HandshakeError is a handshake, or a question for the URL, that was answered with another status than the one that goes on.
type HandshakeError struct {
	Status int
	Asking string // what for
}

// Error tells the status.
func (e *HandshakeError) Error() string { return fmt.Sprintf("%s was answered %d", e.Asking, e.Status) }

func (s Stream) withDefaults() (Stream, error) {
	s.Rate = cmp.Or(s.Rate, 8000)
	s.Pace = cmp.Or(s.Pace, 20*time.Millisecond)
	s.Quoting = cmp.Or(s.Quoting, Numbers)
	s.CallSID = cmp.Or(s.CallSID, newSID())
	s.StreamSID = cmp.Or(s.StreamSID, newSID())
	s.AccountSID = cmp.Or(s.AccountSID, "simulated")
	s.From = cmp.Or(s.From, "+919876543210")
	s.To = cmp.Or(s.To, "+918047491899")
	switch {
	case s.Rate != 8000 && s.Rate != 16000 && s.Rate != 24000:
		return s, fmt.Errorf("%d samples a second is not a rate of Exotel: use 8000, 16000 or 24000", s.Rate)
	case len(s.Audio) < 2 || len(s.Audio)%2 != 0:
		return s, errors.New("the audio of a stream is whole samples of 2 bytes, at least one")
	case s.Expect != nil && len(s.Expect) != len(s.Audio):
		return s, fmt.Errorf(
			"what is expected has %d bytes, the audio %d: it must be as long", len(s.Expect), len(s.Audio),
		)
	case s.Pace < 5*time.Millisecond:
		return s, fmt.Errorf("a frame of %s is too short: Exotel's are 20 or 100 ms", s.Pace)
	case s.Quoting != Numbers && s.Quoting != Strings:
		return s, fmt.Errorf("%q is not a quoting: use numbers or strings", s.Quoting)
	}
	return s, nil
}

// bytesIn is the audio of a time, in whole samples.
func (s Stream) bytesIn(d time.Duration) int { return int(d.Microseconds()*int64(s.Rate)/1e6) * 2 }

// total is the audio of the whole talk.
func (s Stream) total() int {
	if s.Duration > 0 {
		return s.bytesIn(s.Duration)
	}
	return len(s.Audio)
}

func newSID() string {
	sid := make([]byte, 16)
	_, _ = rand.Read(sid) // never fails
	return hex.EncodeToString(sid)
}

// Run has one call's stream: it dials, talks at the real pace, and hangs up. An error is a stream that never began; of one that ended
// before its time, the Report tells how. When ctx ends it hangs up.
func (s Stream) Run(ctx context.Context) (Report, error) {
	s, err := s.withDefaults()
	if err != nil {
		return Report{}, err
	}
	begin := time.Now()
	conn, url, err := s.dial(ctx)
	if err != nil {
		return Report{CallSID: s.CallSID, StreamSID: s.StreamSID}, fmt.Errorf("stream of call %s: %w", s.CallSID, err)
	}
	line := newLine(s, conn, time.Since(begin))
	go line.listen()
	line.talk(ctx, url)
	<-line.ended
	_ = conn.Close()
	return line.report(), nil
}

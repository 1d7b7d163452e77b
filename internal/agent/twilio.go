package agent

import (
	"encoding/base64"
	"fmt"
	"maps"
	"strconv"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/g711"
	"github.com/caly-dev/caly/internal/resample"
)

// twilioRate is the one that Twilio Media Streams have.
const twilioRate = 8000

// twilio is the protocol of Twilio Media Streams, bidirectional, with the agent in the place of the server.
type twilio struct {
	// What FromExotel uses.
	source   source
	down     *resample.Resampler
	narrow   []int16
	codes    []byte
	start    agentstream.StartInfo
	sid      []byte // quoted
	sequence uint64
	chunk    uint64
	samples  uint64 // at 8 kHz, before the next chunk

	// What FromAgent uses.
	sink    sink
	up      *resample.Resampler
	scanner agentstream.Scanner
	wide    []int16
	heard   []int16
	payload []byte
	text    []byte // of a payload, without its line breaks
	rest    []byte // of the text of a payload
}

// twilioBlock is how much of a payload is translated at once, as base64: 15,840 codes, which become 95,040 bytes at 24 kHz. Exotel takes
// 100,000 bytes in a message, and wants multiples of 320.
const twilioBlock = 15_840 / 3 * 4

type twilioStart struct {
	Event    string `json:"event"`
	Sequence string `json:"sequenceNumber"`
	Start    struct {
		AccountSID  string       `json:"accountSid"`
		StreamSID   string       `json:"streamSid"`
		CallSID     string       `json:"callSid"`
		Tracks      []string     `json:"tracks"`
		MediaFormat twilioFormat `json:"mediaFormat"`
		Custom      any          `json:"customParameters"`
	} `json:"start"`
	StreamSID string `json:"streamSid"`
}

type twilioFormat struct {
	Encoding   string `json:"encoding"`
	SampleRate int    `json:"sampleRate"`
	Channels   int    `json:"channels"`
}

// Open returns connected and start.
func (t *twilio) Open(start agentstream.StartInfo) ([]Frame, error) {
	f, err := formatOf(start)
	if err != nil {
		return nil, err
	}
	down, err := resample.New(f.rate, twilioRate)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRate, err)
	}
	up, err := resample.New(twilioRate, f.rate)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRate, err)
	}
	*t = twilio{
		source:  source{format: f},
		sink:    sink{format: f, sid: []byte(start.StreamSID)},
		down:    down,
		up:      up,
		start:   start,
		sid:     appendJSON(nil, start.StreamSID),
		scanner: agentstream.Scanner{FromAgent: true},
	}
	msg := twilioStart{Event: "start", Sequence: t.next(), StreamSID: start.StreamSID}
	msg.Start.AccountSID = start.AccountSID
	msg.Start.StreamSID = start.StreamSID
	msg.Start.CallSID = start.CallSID
	msg.Start.Tracks = []string{"inbound"}
	msg.Start.MediaFormat = twilioFormat{Encoding: "audio/x-mulaw", SampleRate: twilioRate, Channels: 1}
	msg.Start.Custom = parameters(start)
	return []Frame{
		{Data: []byte(`{"event":"connected","protocol":"Call","version":"1.0.0"}`)},
		{Data: appendJSON(nil, msg)},
	}, nil
}

// parameters are the call's own, and its numbers: Twilio's start has no other place for them.
func parameters(start agentstream.StartInfo) map[string]string {
	p := map[string]string{"from": start.From, "to": start.To}
	maps.Copy(p, start.Custom)
	return p
}

func (t *twilio) next() string {
	t.sequence++
	return strconv.FormatUint(t.sequence, 10)
}

// FromExotel translates for the agent.
func (t *twilio) FromExotel(dst []byte, m agentstream.Message) (frame []byte, binary, send bool, err error) {
	switch m.Kind {
	case agentstream.Media:
		frame, send, err = t.media(dst, m.Payload)
		return frame, false, send, err
	case agentstream.Mark, agentstream.DTMF:
		control, err := parseControl(m.Raw)
		if err != nil {
			return dst, false, false, err
		}
		dst = t.head(dst, m.Kind)
		if m.Kind == agentstream.Mark {
			dst = append(dst, `,"mark":{"name":`...)
			dst = appendJSON(dst, control.Name)
		} else {
			dst = append(dst, `,"dtmf":{"track":"inbound_track","digit":`...)
			dst = appendJSON(dst, control.Digit)
		}
		return append(dst, `}}`...), false, true, nil
	case agentstream.Stop:
		dst = append(t.head(dst, m.Kind), `,"stop":{"accountSid":`...)
		dst = append(appendJSON(dst, t.start.AccountSID), `,"callSid":`...)
		return append(appendJSON(dst, t.start.CallSID), `}}`...), false, true, nil
	}
	return dst, false, false, nil // Twilio has no such event for an agent, or it was sent when the stream was opened
}

// head begins a message: event, sequence number, stream.
func (t *twilio) head(dst []byte, k agentstream.Kind) []byte {
	t.sequence++
	dst = append(append(dst, `{"event":"`...), k.String()...)
	dst = strconv.AppendUint(append(dst, `","sequenceNumber":"`...), t.sequence, 10)
	return append(append(dst, `","streamSid":`...), t.sid...)
}

func (t *twilio) media(dst, payload []byte) (frame []byte, send bool, err error) {
	samples, err := t.source.read(payload)
	if err != nil {
		return dst, false, err
	}
	t.narrow = t.down.Append(t.narrow[:0], samples)
	if len(t.narrow) == 0 {
		return dst, false, nil
	}
	t.codes = g711.AppendEncode(t.codes[:0], t.narrow)
	t.chunk++
	dst = strconv.AppendUint(
		append(t.head(dst, agentstream.Media), `,"media":{"track":"inbound","chunk":"`...), t.chunk, 10,
	)
	dst = strconv.AppendUint(append(dst, `","timestamp":"`...), t.samples*1000/twilioRate, 10)
	dst = base64.StdEncoding.AppendEncode(append(dst, `","payload":"`...), t.codes)
	t.samples += uint64(len(t.codes))
	return append(dst, `"}}`...), true, nil
}

// FromAgent translates for Exotel. JSON in a binary frame is taken as well.
func (t *twilio) FromAgent(dst, frame []byte, _ bool) (Out, error) {
	message, err := t.scanner.Scan(frame)
	if err != nil {
		return Out{Frame: dst}, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	switch message.Kind {
	case agentstream.Media:
		t.rest = withoutBreaks(&t.text, message.Payload)
		return t.More(dst)
	case agentstream.Mark:
		control, err := parseControl(frame)
		if err != nil {
			return Out{Frame: dst}, err
		}
		return t.sink.mark(dst, string(control.Name)), nil
	case agentstream.Clear:
		t.up.Reset() // what is to come does not follow what was dropped
		return t.sink.clear(dst), nil
	case agentstream.Stop:
		return Out{Kind: agentstream.Stop, Frame: dst}, nil
	}
	return Out{Kind: agentstream.Other, Frame: dst}, nil
}

// More translates the next block of the payload.
func (t *twilio) More(dst []byte) (Out, error) {
	block := t.rest[:min(len(t.rest), twilioBlock)]
	t.rest = t.rest[len(block):]
	var err error
	if t.payload, err = decodeBase64(t.payload[:0], block); err != nil {
		return Out{Frame: dst}, err
	}
	t.heard = g711.AppendDecode(t.heard[:0], t.payload)
	t.wide = t.up.Append(t.wide[:0], t.heard)
	out := t.sink.media(dst, t.wide)
	out.More = len(t.rest) > 0
	return out, nil
}

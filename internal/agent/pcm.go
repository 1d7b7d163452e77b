package agent

import (
	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// pcm is the protocol for agents that want audio and nothing around it. Audio is binary frames in both directions, at the call's own
// rate; everything else is small JSON text frames:
//
//	to the agent:    {"event":"start",...} first, {"event":"mark","name":"x"}, {"event":"dtmf","digit":"5","duration":"200"},
//	                 {"event":"clear"}, {"event":"stop","reason":"callended"}
//	from the agent:  {"event":"mark","name":"x"}, {"event":"clear"}, {"event":"stop"}
type pcm struct {
	source source
	sink   sink
	halves halves // of the agent's frames
	buffer []int16
	rest   []byte // of a binary frame of the agent
}

// pcmBlock is how many bytes of a frame are translated at once. Exotel takes 100,000 in a message, and wants multiples of 320.
const pcmBlock = 96_000

type pcmStart struct {
	Event      string            `json:"event"`
	StreamID   string            `json:"streamId"`
	CallID     string            `json:"callId"`
	From       string            `json:"from"`
	To         string            `json:"to"`
	SampleRate int               `json:"sampleRate"`
	Encoding   string            `json:"encoding"`
	Channels   int               `json:"channels"`
	Custom     map[string]string `json:"custom"`
}

type pcmControl struct {
	Event    string `json:"event"`
	Name     string `json:"name,omitempty"`
	Digit    string `json:"digit,omitempty"`
	Duration string `json:"duration,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// Open returns the start.
func (p *pcm) Open(start agentstream.StartInfo) ([]Frame, error) {
	f, err := formatOf(start)
	if err != nil {
		return nil, err
	}
	*p = pcm{source: source{format: f}, sink: sink{format: f, sid: []byte(start.StreamSID)}}
	custom := start.Custom
	if custom == nil {
		custom = map[string]string{}
	}
	return []Frame{{Data: appendJSON(nil, pcmStart{
		Event:      "start",
		StreamID:   start.StreamSID,
		CallID:     start.CallSID,
		From:       start.From,
		To:         start.To,
		SampleRate: f.rate,
		Encoding:   "pcm_s16le",
		Channels:   1,
		Custom:     custom,
	})}}, nil
}

// FromExotel translates for the agent.
func (p *pcm) FromExotel(dst []byte, m agentstream.Message) (frame []byte, binary, send bool, err error) {
	switch m.Kind {
	case agentstream.Media:
		samples, err := p.source.read(m.Payload)
		return appendPCM(dst, samples), true, len(samples) > 0, err
	case agentstream.Mark, agentstream.DTMF, agentstream.Clear, agentstream.Stop:
		control, err := parseControl(m.Raw)
		if err != nil {
			return dst, false, false, err
		}
		out := pcmControl{Event: m.Kind.String()}
		switch m.Kind { //nolint:exhaustive // a clear has nothing but its event
		case agentstream.Mark:
			out.Name = string(control.Name)
		case agentstream.DTMF:
			out.Digit = string(control.Digit)
			out.Duration = string(control.Duration)
		case agentstream.Stop:
			out.Reason = string(control.Reason)
		}
		return appendJSON(dst, out), false, true, nil
	}
	return dst, false, false, nil
}

// FromAgent translates for Exotel.
func (p *pcm) FromAgent(dst, frame []byte, binary bool) (Out, error) {
	if binary {
		p.rest = frame
		return p.More(dst)
	}
	control, err := parseControl(frame)
	if err != nil {
		return Out{Frame: dst}, err
	}
	switch control.Event {
	case "mark":
		return p.sink.mark(dst, string(control.Name)), nil
	case "clear":
		p.halves = halves{} // its other half would be of audio that was dropped
		return p.sink.clear(dst), nil
	case "stop":
		return Out{Kind: agentstream.Stop, Frame: dst}, nil
	}
	return Out{Kind: agentstream.Other, Frame: dst}, nil
}

// More translates the next block of a binary frame.
func (p *pcm) More(dst []byte) (Out, error) {
	block := p.rest[:min(len(p.rest), pcmBlock)]
	p.rest = p.rest[len(block):]
	p.buffer = p.halves.samples(p.buffer[:0], block)
	out := p.sink.media(dst, p.buffer)
	out.More = len(p.rest) > 0
	return out, nil
}

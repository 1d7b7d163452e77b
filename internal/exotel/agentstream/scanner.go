package agentstream

// Scanner reads one side's messages. The zero value reads Exotel's. It is not safe for concurrent use.
type Scanner struct {
	FromAgent bool // an agent's messages need no stream_sid, no "connected" and no "start"

	connected, started bool
	scratch            []byte // text that its sender escaped
}

// Scan finds what a frame says. It allocates nothing, unless the sender escaped the event, the id or the payload.
func (s *Scanner) Scan(frame []byte) (Message, error) {
	f := found{cursor: cursor{b: frame, scratch: s.scratch[:0]}}
	f.message()
	s.scratch = f.scratch
	if !f.end() {
		return Message{Raw: frame}, ErrMalformed
	}
	message := Message{Kind: kindOf(f.event), StreamSID: f.sid(), Raw: frame, Oddities: f.odd}
	if message.Kind == Media {
		message.Payload = f.payload
	}
	message.Oddities |= s.judge(message)
	return message, nil
}

// judge finds what is odd about a message as a whole, and about its place in the stream.
func (s *Scanner) judge(m Message) (odd Oddity) {
	switch m.Kind {
	case Other:
		odd = unknownEvent
	case Media:
		odd = oddAudio(m.AudioBytes())
	}
	if s.FromAgent {
		return odd
	}
	if len(m.StreamSID) == 0 && m.Kind != Connected {
		odd |= missingSID
	}
	return odd | s.follow(m.Kind)
}

// follow finds what is odd about a message's place among Exotel's. What is missing is said once in a stream.
func (s *Scanner) follow(k Kind) (odd Oddity) {
	switch k {
	case Connected:
		s.connected = true
	case Start:
		if !s.connected {
			odd = missingConnected
		}
		s.connected = true
		s.started = true
	case Media:
		if !s.started {
			odd = missingStart
		}
		s.started = true
	case Clear:
		odd = unexpectedClear
	}
	return odd
}

func oddAudio(n int) (odd Oddity) {
	if n%320 != 0 {
		odd |= oddSize
	}
	if n > 100_000 {
		odd |= largeChunk
	}
	return odd
}

func kindOf(event []byte) Kind {
	switch string(event) {
	case "media":
		return Media
	case "connected":
		return Connected
	case "start":
		return Start
	case "dtmf":
		return DTMF
	case "mark":
		return Mark
	case "clear":
		return Clear
	case "stop":
		return Stop
	}
	return Other
}

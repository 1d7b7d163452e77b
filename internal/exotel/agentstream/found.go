package agentstream

// Where a message may name its stream, best first.
const (
	sidSnake = iota
	sidCamel
	startSnake
	startCamel
	sidPlaces
)

// found is what one pass over a frame finds. Of a key that comes twice the last counts, as in encoding/json.
type found struct {
	cursor
	event, payload []byte
	sids           [sidPlaces][]byte
	odd            Oddity
	seen           uint8 // known keys of the outermost object
}

func (f *found) sid() []byte {
	for _, sid := range f.sids {
		if len(sid) > 0 {
			return sid
		}
	}
	return nil
}

// Bits of found.seen.
const (
	seenEvent = 1 << iota
	seenMedia
	seenSnake
	seenCamel
	seenStart
	seenPayload
)

// once notes a known key.
func (f *found) once(bit uint8) {
	if f.seen&bit != 0 {
		f.odd |= duplicateKey
	}
	f.seen |= bit
}

// message reads the outermost object.
func (f *found) message() {
	for key := f.open(); key != nil; key = f.next() {
		switch string(key) {
		case "event":
			f.once(seenEvent)
			f.event = f.text()
		case "media":
			f.once(seenMedia)
			f.media()
		case "stream_sid":
			f.once(seenSnake)
			f.sids[sidSnake] = f.text()
		case "streamSid":
			f.once(seenCamel)
			f.odd |= camelCase
			f.sids[sidCamel] = f.text()
		case "start":
			f.once(seenStart)
			f.start()
		case "sequence_number":
			f.number(quotedNumber, 0)
		default:
			f.other(key)
		}
	}
}

func (f *found) other(key []byte) {
	switch string(key) {
	case "dtmf", "mark", "stop":
	case "protocol", "version": // of "connected", in some deployments
	case "sequenceNumber":
		f.odd |= camelCase
	case "digit":
		f.odd |= flatDTMF
	default:
		f.odd |= extraKeys
	}
	f.skip()
}

// media reads the object of a media message.
func (f *found) media() {
	f.payload = nil
	f.seen &^= seenPayload
	if !f.isObject() {
		return
	}
	for key := f.open(); key != nil; key = f.next() {
		switch string(key) {
		case "payload":
			f.once(seenPayload)
			f.payload = f.text()
		case "chunk":
			f.number(quotedNumber, 0)
		case "timestamp":
			f.number(0, bareNumber)
		default:
			f.odd |= extraKeys
			f.skip()
		}
	}
}

// start reads what names the stream inside "start"; ParseStart reads the rest.
func (f *found) start() {
	f.sids[startSnake] = nil
	f.sids[startCamel] = nil
	if !f.isObject() {
		return
	}
	for key := f.open(); key != nil; key = f.next() {
		switch string(key) {
		case "stream_sid":
			f.sids[startSnake] = f.text()
		case "streamSid":
			f.odd |= camelCase
			f.sids[startCamel] = f.text()
		case "call_sid", "account_sid", "from", "to", "custom_parameters", "media_format":
			f.skip()
		case "callSid", "accountSid", "customParameters", "mediaFormat":
			f.odd |= camelCase
			f.skip()
		default:
			f.odd |= extraKeys
			f.skip()
		}
	}
}

// isObject tells whether an object comes; anything else is skipped.
func (f *found) isObject() bool {
	if f.peek() == '{' {
		return true
	}
	f.odd |= wrongType
	f.skip()
	return false
}

// text reads a string's text; nil for anything else.
func (f *found) text() []byte {
	if f.peek() != '"' {
		f.odd |= wrongType
		f.skip()
		return nil
	}
	span, escaped := f.span()
	if !escaped {
		return span
	}
	f.odd |= escapedText
	return f.unescape(span)
}

// number skips a number, which may come in quotes.
func (f *found) number(quoted, bare Oddity) {
	switch b := f.peek(); {
	case b == '"':
		f.odd |= quoted
	case b == '-' || '0' <= b && b <= '9':
		f.odd |= bare
	default:
		f.odd |= wrongType
	}
	f.skip()
}

// Package agentstream is Exotel's audio stream protocol: JSON messages in WebSocket text frames, in both directions.
// A frame is scanned in place: the audio inside is found, never decoded and never copied.
package agentstream

import (
	"errors"
	"math/bits"
)

// ErrMalformed is what Scan answers for bytes that are not one JSON object in valid UTF-8.
var ErrMalformed = errors.New(
	"agentstream: the frame is not a JSON object in valid UTF-8: the sender must write one message as one text frame",
)

// Kind is what a message is about.
type Kind uint8

// The events of the protocol. Other is every event that it does not know; such a message is passed on as it is.
const (
	Other Kind = iota
	Connected
	Start
	Media
	DTMF
	Mark
	Clear
	Stop
)

var kindNames = [...]string{
	Other:     "other",
	Connected: "connected",
	Start:     "start",
	Media:     "media",
	DTMF:      "dtmf",
	Mark:      "mark",
	Clear:     "clear",
	Stop:      "stop",
}

// String is the event as it is written on the wire.
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return kindNames[Other]
	}
	return kindNames[k]
}

// Message is one frame, scanned. Every slice points into the frame (or into the Scanner, if the sender escaped the text)
// and lives until the frame's bytes are reused or the Scanner scans again.
type Message struct {
	Kind      Kind
	StreamSID []byte // empty if the message named none
	Payload   []byte // media: the base64 text
	Raw       []byte // the whole frame
	Oddities  Oddity
}

// AudioBytes is the length of the audio inside a media message, before base64.
func (m Message) AudioBytes() int { return decodedLen(m.Payload) }

// Oddity is a set of deviations from the documented form. They are tolerated and counted.
type Oddity uint32

// Deviations that were seen in Exotel's own documents and samples, or in agents.
const (
	quotedNumber     Oddity = 1 << iota // sequence_number or chunk as a string
	bareNumber                          // timestamp, duration or sample_rate as a number
	camelCase                           // streamSid, callSid, ...
	BinaryFrame                         // JSON in a binary frame; set by who reads the socket
	missingConnected                    // the stream began without "connected"
	missingStart                        // media before "start"
	missingSID                          // Exotel left stream_sid out
	extraKeys                           // keys that the protocol does not name
	oddSize                             // audio that is not a multiple of 320 bytes
	largeChunk                          // audio of more than 100,000 bytes
	unknownEvent                        // an event that the protocol does not name, or none
	flatDTMF                            // "digit" outside of "dtmf"
	escapedText                         // an escaped event, id or payload
	duplicateKey                        // a key twice: the last one counts
	wrongType                           // a known key with another JSON type than documented
	unexpectedClear                     // "clear" from Exotel
	oddityEnd
)

// Oddities is how many bits there are.
const Oddities = 16

var oddityNames = [Oddities]string{
	"quoted_number",
	"bare_number",
	"camel_case",
	"binary_frame",
	"missing_connected",
	"missing_start",
	"missing_sid",
	"extra_keys",
	"odd_size",
	"large_chunk",
	"unknown_event",
	"flat_dtmf",
	"escaped",
	"duplicate_key",
	"wrong_type",
	"unexpected_clear",
}

// OddityName is the metric label of the bit at an index below Oddities.
func OddityName(index int) string { return oddityNames[index] }

// Each calls f with the index of every bit that is set.
func (o Oddity) Each(f func(index int)) {
	for rest := uint32(o); rest != 0; rest &= rest - 1 {
		f(bits.TrailingZeros32(rest))
	}
}

// decodedLen is the number of bytes that base64 text stands for, padded or not.
func decodedLen(text []byte) int {
	n := len(text)
	for n > 0 && text[n-1] == '=' {
		n--
	}
	return n * 6 / 8
}

package wstest

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/gorilla/websocket"
)

// Violation is what breaks RFC 6455, or abuses it.
type Violation struct {
	// Frames as a client sends them, masked, or a server.
	Frames func(masked bool) []byte
	// Code is what the violating peer is closed with; 0: the connection may end without a close.
	Code int
	// Ended tells that it is taken for a peer that ended the call, not for one that broke the protocol.
	Ended bool
}

// Largest message, and number of control frames, that no peer takes.
const (
	tooLarge = 256<<10 + 1
	flood    = 101
)

// Violations are all of them, for a peer that takes messages of up to 256 KiB, and 100 control frames at once.
func Violations() map[string]Violation {
	frame := func(first byte, payload string) func(bool) []byte {
		return func(masked bool) []byte { return FrameBytes(first, masked, payload) }
	}
	frames := func(all ...func(bool) []byte) func(bool) []byte {
		return func(masked bool) (b []byte) {
			for _, f := range all {
				b = append(b, f(masked)...)
			}
			return b
		}
	}
	many := func(n int, f func(bool) []byte) func(bool) []byte {
		return func(masked bool) []byte { return bytes.Repeat(f(masked), n) }
	}
	const broke, tooBig, bad, policy = websocket.CloseProtocolError, websocket.CloseMessageTooBig, websocket.CloseInvalidFramePayloadData,
		websocket.ClosePolicyViolation
	return map[string]Violation{
		"reserved bit 1":          {Frames: frame(0xc1, "{}"), Code: broke},
		"reserved bit 2":          {Frames: frame(0xa1, "{}"), Code: broke},
		"reserved bit 3":          {Frames: frame(0x91, "{}"), Code: broke},
		"reserved bit of a ping":  {Frames: frame(0xc9, ""), Code: broke},
		"reserved data opcode":    {Frames: frame(0x83, "{}"), Code: broke},
		"last data opcode":        {Frames: frame(0x87, "{}"), Code: broke},
		"reserved control opcode": {Frames: frame(0x8b, ""), Code: broke},
		"last control opcode":     {Frames: frame(0x8f, ""), Code: broke},
		"masked the wrong way": {
			Frames: func(masked bool) []byte { return FrameBytes(0x81, !masked, "{}") },
			Code:   broke,
		},
		"a ping masked wrongly": {
			Frames: func(masked bool) []byte { return FrameBytes(0x89, !masked, "") },
			Code:   broke,
		},
		"a ping in parts":          {Frames: frame(0x09, ""), Code: broke},
		"a close in parts":         {Frames: frame(0x08, "\x03\xe8"), Code: broke},
		"a long ping":              {Frames: frame(0x89, strings.Repeat("x", 126)), Code: broke},
		"a long close":             {Frames: frame(0x88, "\x03\xe8"+strings.Repeat("x", 124)), Code: broke},
		"a part of nothing":        {Frames: frame(0x80, "{}"), Code: broke},
		"a message inside another": {Frames: frames(frame(0x01, "{"), frame(0x81, "{}")), Code: broke},
		"a close with bad UTF-8":   {Frames: frame(0x88, "\x03\xe8\xff"), Code: broke},
		"a close of one byte":      {Frames: frame(0x88, "\x03"), Ended: true},
		"too large": {
			Frames: frame(0x81, `{"event":"`+strings.Repeat("x", tooLarge)+`"}`),
			Code:   tooBig,
		},
		"too large in parts": {
			Frames: frames(
				frame(0x01, strings.Repeat(" ", tooLarge/2)), frame(0x00, strings.Repeat(" ", tooLarge/2+1)),
			),
			Code: tooBig,
		},
		"a length beyond int64":     {Frames: beyond},
		"bad UTF-8":                 {Frames: frame(0x81, `{"event":"`+"\xff"+`"}`), Code: bad},
		"bad UTF-8 in parts":        {Frames: frames(frame(0x01, `{"event":"`+"\xe0"), frame(0x80, `"}`)), Code: bad},
		"not JSON, again and again": {Frames: many(16, frame(0x82, "\x00\x01\x02")), Code: bad},
		"a flood of pings":          {Frames: many(flood, frame(0x89, "")), Code: policy},
		"a flood of pongs":          {Frames: many(flood, frame(0x8a, "")), Code: policy},
	}
}

func beyond(masked bool) []byte {
	mask := byte(0)
	if masked {
		mask = 0x80
	}
	return append(binary.BigEndian.AppendUint64([]byte{0x81, mask | 127}, 1<<63|5), "abcdabcdabcd"...)
}

// CloseCodes tells of each code whether a peer may send it, by RFC 6455 section 7.4. 1014 was registered later, and gorilla/websocket
// refuses it.
func CloseCodes() map[int]bool {
	codes := map[int]bool{3000: true, 3999: true, 4000: true, 4999: true}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2999, 5000, 65535} {
		codes[code] = false
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013} {
		codes[code] = true
	}
	return codes
}

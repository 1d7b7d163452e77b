package exotelsim

import "time"

// Report is what came of a stream. Times are from its start.
type Report struct {
	CallSID, StreamSID string
	// Handshake is how long it took until there was a socket, the question for its URL included.
	Handshake time.Duration
	// Lasted is the time from the start to the end of the socket.
	Lasted time.Duration
	// Sent and Received audio.
	Sent, Received Traffic
	// MarksReceived asked for, MarksReturned when their audio was heard; Clears received; Pings answered.
	MarksReceived, MarksReturned, Clears, Pings int
	// Invalid messages, which Exotel could not make anything of, and what was wrong with the first one.
	Invalid int
	Problem string
	// Unusual messages have keys that Exotel's documents do not show, or are in another casing. It may take them.
	Unusual int
	// Small, Uneven and Large chunks of audio are outside of what Exotel recommends: under 3,200 bytes, no multiple of 320, over 100,000.
	Small, Uneven, Large int
	// Echo compares what came back with what was to come back.
	Echo Echo
	// Latency of each frame that came back in full: from its sending to the arrival of its last byte.
	Latency []time.Duration
	// Gaps are the silences of a frame's length or more between two pieces of audio, as the caller hears them; the first 10,000.
	Gaps []time.Duration
	// Late is how far the sender itself fell behind its pace: if it is large, the machine is too small for the test.
	Late time.Duration
	// Audio and Arrivals are there if they were to be kept.
	Audio    []byte
	Arrivals []Arrival
	// Code and Text of the close that came back: 1006 without one. HungUp tells that this side ended the stream, as planned.
	Code   int
	Text   string
	HungUp bool
}

// Traffic in one direction.
type Traffic struct{ Frames, Bytes int }

// Arrival of a piece of audio.
type Arrival struct {
	At    time.Duration
	Bytes int
}

// Echo is a comparison, in bytes. Without something expected all that came back is Equal, up to what was sent.
type Echo struct {
	Equal int // as expected
	Wrong int // something else
	Lost  int // left out, though what follows came
	Extra int // more than was sent
	// Missing is what did not come back until the end.
	Missing int
}

// Whole tells that everything came back as it was to, and nothing else.
func (e Echo) Whole() bool { return e.Wrong == 0 && e.Lost == 0 && e.Extra == 0 && e.Missing == 0 }

package exotelsim

import (
	"bytes"
	"time"
)

// echo follows what comes back along what was sent: by its offset, and where something is left out, by its content.
type echo struct {
	expect  []byte // repeated without end; nil: only offsets count
	waiting []sentFrame
	sent    int // bytes, over all
	at      int // offset of the next byte that comes back
	result  Echo
	latency []time.Duration
}

type sentFrame struct {
	end int // offset behind its last byte
	at  time.Duration
}

func (e *echo) send(now time.Duration, n int) {
	e.sent += n
	e.waiting = append(e.waiting, sentFrame{e.sent, now})
}

// receive takes a piece that came back.
func (e *echo) receive(now time.Duration, piece []byte) {
	if extra := len(piece) - (e.sent - e.at); extra > 0 {
		e.result.Extra += extra
		piece = piece[:len(piece)-extra]
	}
	wrong := e.differences(piece)
	if wrong > len(piece)/4 {
		if lost := e.find(piece); lost > 0 {
			e.skip(lost)
			wrong = e.differences(piece)
		}
	}
	e.result.Wrong += wrong
	e.result.Equal += len(piece) - wrong
	e.at += len(piece)
	for len(e.waiting) > 0 && e.waiting[0].end <= e.at {
		e.latency = append(e.latency, now-e.waiting[0].at)
		e.waiting = e.waiting[1:]
	}
}

// differences is how many bytes of a piece are not the expected ones.
func (e *echo) differences(piece []byte) (n int) {
	if len(e.expect) == 0 {
		return 0
	}
	at := e.at % len(e.expect)
	for len(piece) > 0 {
		part := min(len(piece), len(e.expect)-at)
		if !bytes.Equal(piece[:part], e.expect[at:at+part]) {
			for i := range part {
				if piece[i] != e.expect[at+i] {
					n++
				}
			}
		}
		piece = piece[part:]
		at = 0
	}
	return n
}

// find tells how far behind the expected offset a piece stands, as a whole, in what was sent and did not come back: 0 if nowhere.
func (e *echo) find(piece []byte) int {
	start := piece[:min(len(piece), 64)]
	window := appendRing(nil, e.expect, e.at, e.sent-len(piece)+len(start))
	return max(0, bytes.Index(window, start))
}

// skip leaves out what does not come back any more. Its frames have no latency.
func (e *echo) skip(lost int) {
	e.result.Lost += lost
	e.at += lost
	for len(e.waiting) > 0 && e.waiting[0].end <= e.at {
		e.waiting = e.waiting[1:]
	}
}

func (e *echo) finish() Echo {
	e.result.Missing = e.sent - e.at
	return e.result
}

// appendRing appends the bytes from one offset to another of data that is repeated without end.
func appendRing(dst, data []byte, from, to int) []byte {
	for from < to {
		part := data[from%len(data):]
		part = part[:min(len(part), to-from)]
		dst = append(dst, part...)
		from += len(part)
	}
	return dst
}

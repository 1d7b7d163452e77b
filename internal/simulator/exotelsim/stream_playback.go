package exotelsim

import "time"

// playback is the caller's ear: what came is played one after the other, and a mark comes back when all before it was heard.
type playback struct {
	bytesPerSecond int
	heard          time.Duration // until then there is audio, from the start of the stream
	began          bool
	marks          []playedMark
}

type playedMark struct {
	name string
	at   time.Duration
}

// audio takes n bytes that came now, and tells how long there had been silence.
func (p *playback) audio(now time.Duration, n int) (gap time.Duration) {
	if p.began && now > p.heard {
		gap = now - p.heard
	}
	p.began = true
	p.heard = max(p.heard, now) + time.Duration(n)*time.Second/time.Duration(p.bytesPerSecond)
	return gap
}

func (p *playback) mark(now time.Duration, name string) {
	p.marks = append(p.marks, playedMark{name, max(p.heard, now)})
}

// clear drops what was not heard yet, and returns the marks that wait for it. What comes next follows no silence.
func (p *playback) clear(now time.Duration) (waiting []string) {
	n := 0
	for n < len(p.marks) && p.marks[n].at <= now {
		n++
	}
	for _, m := range p.marks[n:] {
		waiting = append(waiting, m.name)
	}
	p.marks = p.marks[:n]
	p.began = false
	p.heard = min(p.heard, now)
	return waiting
}

// due takes the marks whose time has come.
func (p *playback) due(now time.Duration) (names []string) {
	for len(p.marks) > 0 && p.marks[0].at <= now {
		names = append(names, p.marks[0].name)
		p.marks = p.marks[1:]
	}
	return names
}

// next is when the next mark is due.
func (p *playback) next() (time.Duration, bool) {
	if len(p.marks) == 0 {
		return 0, false
	}
	return p.marks[0].at, true
}

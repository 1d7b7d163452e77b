package bridge

import (
	"time"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// Counter is a metric whose labels are bound; prometheus.Counter is one.
type Counter interface{ Add(float64) }

// Histogram is a metric whose labels are bound; prometheus.Histogram is one.
type Histogram interface{ Observe(float64) }

// Observer is told what happens in all calls; newObserver makes one.
type Observer struct {
	ToAgent, ToExotel DirectionObserver
	// Oddities by the index of their bit, of both sides.
	Oddities [agentstream.Oddities]Counter
}

// DirectionObserver is told of one direction.
type DirectionObserver struct {
	Frames, Bytes Counter   // passed on
	Dropped       Counter   // media that a slow side did not get, or that a clear took back
	Refused       Counter   // frames that were malformed and left out
	Added         Histogram // seconds from a frame's last byte read to its last byte written
}

type nothing struct{}

func (nothing) Add(float64)     {}
func (nothing) Observe(float64) {}

// newObserver returns one in which fields that are nil are not told.
func newObserver(o Observer) *Observer {
	for _, d := range []*DirectionObserver{&o.ToAgent, &o.ToExotel} {
		for _, c := range []*Counter{&d.Frames, &d.Bytes, &d.Dropped, &d.Refused} {
			fill(c)
		}
		if d.Added == nil {
			d.Added = nothing{}
		}
	}
	for i := range o.Oddities {
		fill(&o.Oddities[i])
	}
	return &o
}

// fill sets a counter that does nothing, so that callers need no check for nil.
func fill(c *Counter) {
	if *c == nil {
		*c = nothing{}
	}
}

// Counts of one direction of one call.
type Counts struct {
	Frames, Bytes uint64 // passed on
	Dropped       uint64 // media that the destination did not get: it was slow, or a clear took it back
	StaleMarks    uint64 // marks that a clear took back with the audio in front of them
	Refused       uint64 // malformed frames, which were left out
}

// sink counts what a lane does; the lane's lock guards it.
type sink struct {
	Counts
	observer *DirectionObserver
}

// sent counts a frame that was written, and the time that it spent in Caly.
func (s *sink) sent(bytes int, added time.Duration) {
	s.Frames++
	s.Bytes += uint64(bytes) //nolint:gosec // G115: a length
	s.observer.Frames.Add(1)
	s.observer.Bytes.Add(float64(bytes))
	s.observer.Added.Observe(added.Seconds())
}

// dropped counts a dropped frame of media or a mark. Others are not counted.
func (s *sink) dropped(kind agentstream.Kind) {
	switch kind {
	case agentstream.Media:
		s.Dropped++
		s.observer.Dropped.Add(1)
	case agentstream.Mark:
		s.StaleMarks++
	}
}

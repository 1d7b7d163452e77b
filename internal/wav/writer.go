package wav

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caly-dev/caly/internal/budget"
)

// Channel of a call's file.
type Channel int

// Channels: the caller is left, the agent right.
const (
	Caller Channel = iota
	Agent
	channels
)

const (
	// tolerance within which audio counts as the continuation of what was before: networks do not keep a beat.
	tolerance = 100 * time.Millisecond
	// lateness after which a moment is written, with silence for a side from which nothing came.
	lateness = 500 * time.Millisecond
	// ahead is how much of a side's audio is kept that is yet to be heard: an agent may send a minute at once. More is dropped and counted.
	ahead = time.Minute
	// chunk is how much is written at once, in samples of both channels.
	chunk = 1024
	// usual is the audio that each file may keep in any case, of both sides together; what is beyond it comes out of
	// the memory that it shares.
	usual = 2 * time.Second
)

// ErrClosed is what a Writer answers after its Close.
var ErrClosed = errors.New("wav: the file is finished")

// Writer writes a call's two sides to one file of 16-bit PCM, aligned by time: audio stands where it was heard, with silence around it.
//
// A file that is cut, because its process died, plays up to its cut: until Close its header says that the audio goes
// on to the end of the file (size 0xFFFFFFFF). Close puts the right sizes there if the file can be written at a
// position (io.WriterAt). Where it cannot, as in an upload, Header returns the right header for a caller that can
// still replace the beginning. The file is valid without that, too.
//
// At most a minute of each side is in memory, usually half a second; Within bounds what many keep together. A Writer
// is not for concurrent use.
type Writer struct {
	w       io.Writer
	rate    int
	lanes   [channels]lane
	written int // samples of each channel
	now     int // the latest time that was told, in samples
	dropped int
	out     []byte
	room    budget.Share
	closed  bool
	err     error
}

// NewWriter begins a file.
func NewWriter(w io.Writer, rate int) (*Writer, error) {
	if rate <= 0 || rate > 192_000 {
		return nil, fmt.Errorf("wav: %d is not a sample rate", rate)
	}
	if _, err := w.Write(header(rate, int(channels), unknown)); err != nil {
		return nil, fmt.Errorf("wav: write the header: %w", err)
	}
	return &Writer{w: w, rate: rate, out: make([]byte, 0, chunk*4)}, nil
}

// Within has what the writer keeps beyond the usual come out of a budget. Audio for which there is no memory is
// dropped and counted. Close gives it back, and so does Discard.
func (w *Writer) Within(b *budget.Budget) *Writer {
	w.room = b.Share(int64(4 * w.samples(usual)))
	return w
}

// Discard gives back what the writer holds. Nothing is written any more.
func (w *Writer) Discard() {
	w.closed = true
	w.lanes = [channels]lane{}
	w.room.Resize(0)
}

// samples of a time from the start.
func (w *Writer) samples(at time.Duration) int { return int(at.Microseconds() * int64(w.rate) / 1e6) }

// Write adds one side's audio. Its first sample is heard at a time from the start of the call, or after all earlier
// audio of the side. Times are those of one clock for both sides. Half a sample at the end waits for its other half.
func (w *Writer) Write(c Channel, at time.Duration, pcm []byte) error {
	if err := w.advance(at); err != nil {
		return err
	}
	lane := &w.lanes[c]
	start := w.samples(at)
	if gap := start - (w.written + lane.len()); gap > w.samples(tolerance) {
		lane.half = false
		lane.silence(gap)
	}
	most := w.samples(ahead)
	if !w.room.Resize(w.kept() + int64(len(pcm))) {
		most = 0 // no more than is there
	}
	w.dropped += lane.add(pcm, most)
	return nil
}

// kept is in bytes.
func (w *Writer) kept() (n int64) {
	for i := range w.lanes {
		n += int64(len(w.lanes[i].data))
	}
	return n
}

// Clear drops the agent's audio that was not heard at a time: Exotel was told to forget it.
func (w *Writer) Clear(at time.Duration) error {
	if err := w.advance(at); err != nil {
		return err
	}
	w.lanes[Agent].cut(w.samples(at) - w.written)
	w.room.Resize(w.kept())
	return nil
}

// advance writes what is final now.
func (w *Writer) advance(at time.Duration) error {
	if w.closed {
		return ErrClosed
	}
	w.now = max(w.now, w.samples(at))
	return w.flush(w.now - w.samples(lateness))
}

// flush writes both sides up to a position.
func (w *Writer) flush(to int) error {
	for w.err == nil && w.written < to {
		n := min(chunk, to-w.written)
		left := w.lanes[Caller].take(n)
		right := w.lanes[Agent].take(n)
		w.out = w.out[:4*n]
		clear(w.out)
		for i := 0; i < len(left); i += 2 {
			w.out[2*i], w.out[2*i+1] = left[i], left[i+1]
		}
		for i := 0; i < len(right); i += 2 {
			w.out[2*i+2], w.out[2*i+3] = right[i], right[i+1]
		}
		w.written += n
		if _, err := w.w.Write(w.out); err != nil {
			w.err = fmt.Errorf("wav: write the audio: %w", err)
		}
	}
	for i := range w.lanes {
		w.lanes[i].tidy()
	}
	w.room.Resize(w.kept())
	return w.err
}

// Close ends the file with the call, at a time from its start. What the agent had said beyond that nobody heard.
func (w *Writer) Close(at time.Duration) error {
	if err := w.Clear(at); err != nil {
		return err
	}
	err := w.flush(max(w.now, w.written+w.lanes[Caller].len(), w.written+w.lanes[Agent].len()))
	w.Discard()
	if err != nil {
		return err
	}
	if file, ok := w.w.(io.WriterAt); ok {
		if _, err := file.WriteAt(w.Header(), 0); err != nil {
			return fmt.Errorf("wav: write the header's sizes: %w", err)
		}
	}
	return nil
}

// Header for what has been written.
func (w *Writer) Header() []byte { return CallHeader(w.rate, 4*int64(w.written)) }

// Dropped tells how many samples were left out because too much was to be kept.
func (w *Writer) Dropped() int { return w.dropped }

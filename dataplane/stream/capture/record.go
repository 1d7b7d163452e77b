package capture

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/g711"
	"github.com/caly-dev/caly/internal/wav"
)

const (
	defaultRate = 8000
	// lookEvery is how often the recorder takes what the queue has.
	lookEvery = 250 * time.Millisecond
)

// recorder makes samples of a call's messages, and a file of them. One goroutine has it.
type recorder struct {
	rate    int
	ulaw    bool
	origin  time.Duration // the file's begin
	file    *wav.Writer   // nil before there is anything to write
	raw     []byte
	samples []int16
	lacking int64 // messages that are not in the file, or not whole: they were no audio, or there was no memory
}

// record takes what the queue has, until the call ends.
func (s *Capture) record() {
	defer close(s.recorded)
	defer s.tape.spool.close()
	defer s.queue.close()
	defer s.recorder.discard()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var b batch
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-s.queue.wake:
		case <-s.ended:
			ended = true
		case <-s.cut:
			return
		case <-s.c.ctx.Done(): // a stream that has not ended when all has: what there is stays on the disk
			return
		}
		var err error
		if b, err = s.look(b); err == nil && ended && s.recorder.file != nil {
			err = s.recorder.file.Close(max(s.closedAt-s.recorder.origin, 0))
		}
		if err != nil {
			s.tape.cutShort(err)
			return
		}
	}
}

// look writes what the queue has. The spool's segments that are full are for the sender.
func (s *Capture) look(b batch) (batch, error) {
	b, dropped := s.queue.take(b)
	if len(b.entries) == 0 && s.recorder.file == nil {
		if _, known := s.queue.started(); !known {
			return b, nil
		}
	}
	if s.recorder.file == nil {
		if err := s.open(); err != nil {
			return b, err
		}
	}
	err := s.recorder.write(b)
	if dropped += s.recorder.lacking; dropped > 0 {
		s.c.m.dropped.Add(float64(dropped))
		s.recorder.lacking = 0
	}
	if err == nil {
		err = s.tape.spool.flush()
	}
	s.poke()
	return b, err
}

// open begins the file, once it is known what it is of.
func (s *Capture) open() (err error) {
	info, known := s.queue.started()
	recorder := &s.recorder
	if known && info.SampleRate > 0 {
		recorder.rate = info.SampleRate
	}
	recorder.ulaw = agent.IsULaw(info.Encoding)
	if err := s.tape.open(info.CallSID, recorder.rate); err != nil {
		return err
	}
	if recorder.file, err = wav.NewWriter(s.tape.spool, recorder.rate); err != nil {
		return err
	}
	recorder.file.Within(s.c.memory.Of(s.tape.m.Tenant))
	return nil
}

// poke the sender.
func (s *Capture) poke() {
	select {
	case s.full <- struct{}{}:
	default:
	}
}

// discard gives back what was not written.
func (r *recorder) discard() {
	if r.file != nil {
		r.file.Discard()
	}
}

// write decodes a batch and writes it to the file at its times.
func (r *recorder) write(b batch) error {
	text := b.text
	for _, e := range b.entries {
		payload := text[:e.length]
		text = text[e.length:]
		at := max(e.at-r.origin, 0)
		if e.kind == cleared {
			if err := r.file.Clear(at); err != nil {
				return err
			}
			continue
		}
		pcm, err := r.decode(payload)
		if err != nil {
			r.lacking++
			continue
		}
		channel := wav.Caller
		if e.kind == fromAgent {
			channel = wav.Agent
		}
		before := r.file.Dropped()
		if err := r.file.Write(channel, at, pcm); err != nil {
			return err
		}
		if r.file.Dropped() > before {
			r.lacking++
		}
	}
	return nil
}

// decode makes 16-bit samples of a payload; they are valid until the next one.
func (r *recorder) decode(payload []byte) ([]byte, error) {
	encoding := base64.StdEncoding
	if len(payload)%4 != 0 {
		encoding = base64.RawStdEncoding
	}
	raw, err := encoding.AppendDecode(r.raw[:0], payload)
	r.raw = raw[:0]
	if err != nil {
		return nil, errors.New("the payload is not base64")
	}
	if !r.ulaw {
		return raw, nil
	}
	r.samples = g711.AppendDecode(r.samples[:0], raw)
	pcm := r.raw[:0]
	for _, x := range r.samples {
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(x)) //nolint:gosec // two's complement
	}
	r.raw = pcm[:0]
	return pcm, nil
}

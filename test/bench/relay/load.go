package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// result of one run.
type result struct {
	frames   int
	relay    time.Duration // CPU of the relay
	peers    time.Duration // CPU of this process
	p50, p99 time.Duration
}

// cpu is microseconds of the relay for each frame.
func (r result) cpu() float64 { return float64(r.relay.Nanoseconds()) / 1000 / float64(r.frames) }

// whole is CPU of relay and peers for each frame.
func (r result) whole() time.Duration { return (r.relay + r.peers) / time.Duration(r.frames) }

func (r result) String() string { return fmt.Sprintf("%.2f us/frame", r.cpu()) }

var epoch = time.Now()

// end is one end of a call. Frames arrive in order, so the first that is under way is the one that arrives.
type end struct {
	conn  net.Conn
	other *end
	sent  [256]atomic.Int64 // when, by number; enough for what is under way
	next  atomic.Uint32
	got   atomic.Int64
	seen  uint32
	times []time.Duration // of the frames that arrived here
	pong  []byte
}

func (e *end) write(b []byte) {
	e.sent[e.next.Add(1)%256].Store(int64(time.Since(epoch)))
	_, _ = e.conn.Write(b) // a broken call is noticed by what does not arrive
}

// read counts frames until its deadline.
func (e *end) read() {
	buf := make([]byte, 64<<10)
	n := 0
	for {
		m, err := e.conn.Read(buf[n:])
		n += m
		arrived := time.Since(epoch)
		at := 0
		for {
			size := frameSize(buf[at:n])
			if size == 0 || at+size > n {
				break
			}
			ping := buf[at] == 0x89
			at += size
			if ping {
				_, _ = e.conn.Write(e.pong)
				continue
			}
			e.seen++
			e.times = append(e.times, arrived-time.Duration(e.other.sent[e.seen%256].Load()))
			e.got.Add(1)
		}
		n = copy(buf, buf[at:n])
		if err != nil { // the deadline, between frames
			return
		}
	}
}

// frameSize is the length of the frame that b begins with; 0 if it cannot be told yet. Frames are short here.
func frameSize(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	size := 2
	n := int(b[1] & 0x7f)
	if n == 126 {
		if len(b) < 4 {
			return 0
		}
		n = int(binary.BigEndian.Uint16(b[2:]))
		size += 2
	}
	if b[1]&0x80 != 0 {
		size += 4
	}
	return size + n
}

// message returns a media message with audio bytes of audio.
func message(audio int) string {
	return `{"event":"media","sequence_number":3,"stream_sid":"6a0f1b2c3d4e5f60718293a4b5c6d7e8","media":{"chunk":2,` +
		`"timestamp":"10","payload":"` +
		base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1, 2, 3, 4}, audio/4)) + `"}}`
}

// load runs again if frames did not arrive, up to three times: a machine that is busy with something else can stall a
// side for longer than the bridge's budget.
func (r *rig) load(ctx context.Context, audio, rate int, run time.Duration) (got result, err error) {
	for range 3 {
		if got, err = r.once(ctx, audio, rate, run); !errors.Is(err, errLost) {
			return got, err
		}
		r.forget()
	}
	return got, err
}

// forget restarts the numbers of all calls, after some frames were lost.
func (r *rig) forget() {
	for _, c := range r.calls {
		for _, e := range []*end{c.exotel, c.agent} {
			e.seen = e.other.next.Load()
			e.got.Store(int64(e.seen))
		}
	}
}

var errLost = errors.New("frames did not arrive: is the machine busy?")

// once sends frames with audio bytes of audio both ways at a rate, and returns what that cost.
func (r *rig) once(ctx context.Context, audio, rate int, run time.Duration) (result, error) {
	const settle = 300 * time.Millisecond
	ends, readers := r.listen()
	stop, cancel := context.WithCancel(ctx)
	var senders sync.WaitGroup
	for i, masked := range []bool{true, false} {
		f := frame(message(audio), masked)
		senders.Go(func() { send(stop, ends[i], f, rate/2) })
	}
	time.Sleep(settle)
	cpu, own, before, err := r.usage(ends)
	time.Sleep(run)
	cpuEnd, ownEnd, after, errEnd := r.usage(ends)
	cancel()
	senders.Wait()
	lost := awaitAll(ends)
	var times []time.Duration
	for _, side := range ends {
		for _, e := range side {
			_ = e.conn.SetReadDeadline(time.Now())
		}
	}
	readers.Wait()
	for _, side := range ends {
		for _, e := range side {
			_ = e.conn.SetReadDeadline(time.Time{})
			times = append(times, e.times...)
		}
	}
	if err := errors.Join(err, errEnd, ctx.Err()); err != nil {
		return result{}, err
	}
	if lost != 0 || after == before {
		return result{}, fmt.Errorf("%w: %d, while %d did", errLost, lost, after-before)
	}
	slices.Sort(times)
	return result{
		frames: after - before,
		relay:  cpuEnd - cpu,
		peers:  ownEnd - own,
		p50:    times[len(times)/2],
		p99:    times[len(times)*99/100],
	}, nil
}

// awaitAll gives what is under way a few seconds, and tells how many frames did not arrive.
func awaitAll(ends [2][]*end) (lost int64) {
	for range 100 {
		lost = 0
		for _, side := range ends {
			for _, e := range side {
				lost += int64(e.other.next.Load()) - e.got.Load()
			}
		}
		if lost == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return lost
}

// listen starts the reading of all ends.
func (r *rig) listen() (ends [2][]*end, readers *sync.WaitGroup) {
	readers = &sync.WaitGroup{}
	for _, c := range r.calls {
		ends[0], ends[1] = append(ends[0], c.exotel), append(ends[1], c.agent)
		for _, e := range []*end{c.exotel, c.agent} {
			e.times = e.times[:0]
			readers.Go(e.read)
		}
	}
	return ends, readers
}

func (r *rig) usage(ends [2][]*end) (relay, own time.Duration, frames int, err error) {
	for _, side := range ends {
		for _, e := range side {
			frames += int(e.got.Load())
		}
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0, 0, err
	}
	relay, err = r.cpu()
	return relay, time.Duration(u.Utime.Nano() + u.Stime.Nano()), frames, err
}

// send writes a frame to one end after the other at a rate.
func send(ctx context.Context, ends []*end, f []byte, rate int) {
	began := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if ahead := time.Duration(n)*time.Second/time.Duration(rate) - time.Since(began); ahead > 500*time.Microsecond {
			time.Sleep(ahead)
		}
		ends[n%len(ends)].write(f)
	}
}

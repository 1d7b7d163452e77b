package exotelsim

import (
	"context"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// sendLimit is how long one message may take to be sent, goodbye how long the other side may take to answer a close.
	sendLimit = 10 * time.Second
	goodbye   = 5 * time.Second
)

// line is a stream under way. One goroutine talks, one listens.
type line struct {
	s     Stream
	conn  *websocket.Conn
	begin time.Time

	ended  chan struct{} // closed when there is nothing more to listen to
	wake   chan struct{} // something for the talker to do before its time
	revive chan struct{} // closed when a dead line is looked at again
	dead   atomic.Bool
	hungUp atomic.Bool
	linger atomic.Bool // the talker waits for what is still to come back

	timer *time.Timer // of the talker, as is what follows
	frame []byte
	audio []byte
	late  time.Duration
	sent  Traffic

	mu     sync.Mutex
	play   playback
	echo   echo
	back   []string // marks to be sent back at once
	result Report
}

func newLine(s Stream, conn *websocket.Conn, handshake time.Duration) *line {
	l := &line{
		s:      s,
		conn:   conn,
		begin:  time.Now(),
		ended:  make(chan struct{}),
		wake:   make(chan struct{}, 1),
		revive: make(chan struct{}),
		timer:  time.NewTimer(time.Hour),
		play:   playback{bytesPerSecond: 2 * s.Rate},
		echo:   echo{expect: s.Expect},
	}
	l.result = Report{CallSID: s.CallSID, StreamSID: s.StreamSID, Handshake: handshake}
	return l
}

func (l *line) now() time.Duration { return time.Since(l.begin) }

// report tells how the stream went, once it has ended.
func (l *line) report() Report {
	r := l.result
	r.Sent = l.sent
	r.Late = l.late
	r.HungUp = l.hungUp.Load()
	r.Echo = l.echo.finish()
	r.Latency = l.echo.latency
	return r
}

// talk is the sending side, from the first message to the last.
func (l *line) talk(ctx context.Context, u *url.URL) {
	defer l.timer.Stop()
	speller := newSpeller(l.s)
	if !l.s.Quirks.NoConnected {
		l.send([]byte(`{"event":"connected"}`))
	}
	l.send(speller.start(customOf(u)))
	if over := l.speak(ctx, speller); over {
		return
	}
	if l.s.Linger > 0 {
		l.linger.Store(true)
		l.wait(ctx, speller, l.now()+l.s.Linger, l.allBack)
	}
	l.hangUp(speller)
}

// speak sends the audio at its pace. It tells whether the line was given up on.
func (l *line) speak(ctx context.Context, w *speller) (over bool) {
	total := l.s.total()
	for i := 0; l.sent.Bytes < total; i++ {
		due := time.Duration(i+1) * l.s.Pace // a frame is sent when its last sample was spoken
		if !l.wait(ctx, w, due, nil) {
			return false
		}
		l.late = max(l.late, l.now()-due)
		l.sendAudio(w, due-l.s.Pace, min(l.boundary(i+1), total))
		if at := i / 10; i%10 == 9 && at < len(l.s.Digits) {
			l.frame = w.dtmf(l.frame[:0], l.s.Digits[at:at+1])
			l.send(l.frame)
		}
		switch streamQuirks := l.s.Quirks; {
		case streamQuirks.DropAfter > 0 && l.sent.Frames >= streamQuirks.DropAfter:
			l.hungUp.Store(true)
			_ = l.conn.NetConn().Close()
			return true
		case streamQuirks.DeadAfter > 0 && l.sent.Frames >= streamQuirks.DeadAfter:
			l.playDead(ctx)
			return true
		}
	}
	return false
}

// boundary is the offset behind the n-th frame.
func (l *line) boundary(n int) int {
	b := l.s.bytesIn(time.Duration(n) * l.s.Pace)
	if l.s.Quirks.OddSizes && n%2 == 1 {
		b++
	}
	return b
}

func (l *line) sendAudio(w *speller, at time.Duration, end int) {
	l.audio = appendRing(l.audio[:0], l.s.Audio, l.sent.Bytes, end)
	l.frame = w.media(l.frame[:0], l.audio, at)
	l.sent.Frames++
	l.sent.Bytes = end
	l.mu.Lock()
	l.echo.send(l.now(), len(l.audio))
	l.mu.Unlock()
	l.send(l.frame)
}

// send sends one message. Who listens sees that the line is broken.
func (l *line) send(msg []byte) {
	kind := websocket.TextMessage
	if l.s.Quirks.Binary {
		kind = websocket.BinaryMessage
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(sendLimit)) // never fails
	if l.conn.WriteMessage(kind, msg) != nil {
		_ = l.conn.SetReadDeadline(time.Now().Add(goodbye)) // there may be a close to read
	}
}

// wait returns true at a time, or before it when enough says so, and sends marks back meanwhile. It returns false if the stream is over.
func (l *line) wait(ctx context.Context, w *speller, until time.Duration, enough func() bool) bool {
	for {
		next := l.sendMarks(w, until)
		now := l.now()
		if ctx.Err() != nil || l.isOver() {
			return false
		}
		if now >= until || enough != nil && enough() {
			return true
		}
		l.timer.Reset(next - now)
		select {
		case <-ctx.Done():
			return false
		case <-l.ended:
			return false
		case <-l.wake:
		case <-l.timer.C:
		}
	}
}

// sendMarks sends those back whose audio was heard, and tells when the next one is due, at most until.
func (l *line) sendMarks(w *speller, until time.Duration) (next time.Duration) {
	l.mu.Lock()
	names := slices.Concat(l.back, l.play.due(l.now()))
	l.back = nil
	l.result.MarksReturned += len(names)
	if at, ok := l.play.next(); ok {
		until = min(until, at)
	}
	l.mu.Unlock()
	for _, name := range names {
		l.frame = w.mark(l.frame[:0], name)
		l.send(l.frame)
	}
	return until
}

func (l *line) isOver() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

func (l *line) allBack() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.echo.at >= l.echo.sent
}

// hangUp ends the stream as the caller's hanging up does.
func (l *line) hangUp(w *speller) {
	if l.isOver() {
		return
	}
	l.hungUp.Store(true)
	l.send(w.stop(nil, "callended"))
	_ = l.conn.WriteControl(
		websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(goodbye),
	)
	_ = l.conn.SetReadDeadline(time.Now().Add(goodbye)) // never fails
}

// playDead neither reads nor sends, nor answers a ping. Later it looks at what has become of the connection.
func (l *line) playDead(ctx context.Context) {
	l.dead.Store(true)
	l.timer.Reset(l.s.Quirks.DeadFor)
	select {
	case <-ctx.Done():
	case <-l.ended:
	case <-l.timer.C:
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(time.Second)) // never fails
	close(l.revive)
}

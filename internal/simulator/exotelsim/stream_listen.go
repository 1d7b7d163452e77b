package exotelsim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gorilla/websocket"
)

// mostGaps bounds what a Report holds of them.
const mostGaps = 10_000

// listener is what the listening goroutine keeps between frames.
type listener struct {
	*line
	frame []byte
	audio []byte
	media []byte // what every media message in its minimal form begins with
}

// listen reads until the socket ends.
func (l *line) listen() {
	defer close(l.ended)
	l.conn.SetPingHandler(l.pong)
	in := listener{
		line:  l,
		media: []byte(`{"event":"media","stream_sid":` + quote(l.s.StreamSID) + `,"media":{"payload":"`),
	}
	for {
		kind, reader, err := l.conn.NextReader()
		if err == nil {
			in.frame, err = readAll(in.frame[:0], reader)
		}
		if err != nil {
			l.over(err)
			return
		}
		in.take(kind)
		if l.s.Quirks.ReadDelay > 0 && !l.hungUp.Load() {
			time.Sleep(l.s.Quirks.ReadDelay)
		}
		if l.dead.Load() {
			<-l.revive
		}
	}
}

func (l *line) pong(data string) error {
	if l.dead.Load() {
		return nil
	}
	l.mu.Lock()
	l.result.Pings++
	l.mu.Unlock()
	_ = l.conn.WriteControl(
		websocket.PongMessage, []byte(data), time.Now().Add(goodbye),
	) // a broken line shows in reading
	return nil
}

func readAll(dst []byte, r io.Reader) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// over notes how the socket ended.
func (l *line) over(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Lasted = l.now()
	l.result.Code = websocket.CloseAbnormalClosure
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		l.result.Code = closed.Code
		l.result.Text = closed.Text
	}
}

// take takes one message.
func (in *listener) take(kind int) {
	if kind != websocket.TextMessage {
		in.invalid("a binary message")
		return
	}
	if rest, ok := bytes.CutPrefix(in.frame, in.media); ok { // the form that is sent thousands of times a second
		payload, ok := bytes.CutSuffix(rest, []byte(`"}}`))
		if ok && !bytes.ContainsAny(payload, "\r\n") && in.heard(payload) { // base64 skips line ends, JSON has none
			return
		}
	}
	in.takeJSON()
}

// inbound is a message to Exotel.
type inbound struct {
	Event     string `json:"event"`
	StreamSID string `json:"stream_sid"` // optional
	Media     struct {
		Payload *string `json:"payload"`
	} `json:"media"`
	Mark struct {
		Name string `json:"name"`
	} `json:"mark"`
}

// parseInbound tells also whether the message has the documented keys alone.
func parseInbound(frame []byte) (m inbound, usual bool, err error) {
	strict := json.NewDecoder(bytes.NewReader(frame))
	strict.DisallowUnknownFields()
	if strict.Decode(&m) == nil {
		if _, err := strict.Token(); errors.Is(err, io.EOF) {
			return m, true, nil
		}
	}
	m = inbound{}
	err = json.Unmarshal(frame, &m)
	return m, false, err
}

func (in *listener) takeJSON() {
	inbound, usual, err := parseInbound(in.frame)
	if !usual {
		in.mu.Lock()
		in.result.Unusual++
		in.mu.Unlock()
	}
	switch {
	case err != nil:
		in.invalid("no JSON: " + err.Error())
		return
	case inbound.StreamSID != "" && inbound.StreamSID != in.s.StreamSID:
		in.invalid("a message for another stream")
		return
	}
	switch inbound.Event {
	case "media":
		if inbound.Media.Payload == nil || !in.heard([]byte(*inbound.Media.Payload)) {
			in.invalid("media without base64")
		}
	case "mark":
		in.mu.Lock()
		in.result.MarksReceived++
		in.play.mark(in.now(), inbound.Mark.Name)
		in.mu.Unlock()
		in.poke()
	case "clear":
		in.clear()
	default:
		in.invalid(fmt.Sprintf("an event %.20q", inbound.Event))
	}
}

func (in *listener) clear() {
	in.mu.Lock()
	in.result.Clears++
	if waiting := in.play.clear(in.now()); in.s.Quirks.MarksOnClear {
		in.back = append(in.back, waiting...)
	}
	in.mu.Unlock()
	in.poke()
}

// heard takes a payload, and tells whether it is one.
func (in *listener) heard(payload []byte) bool {
	var err error
	if in.audio, err = base64.StdEncoding.AppendDecode(in.audio[:0], payload); err != nil {
		return false
	}
	now := in.now()
	in.mu.Lock()
	in.measure(len(in.audio))
	if gap := in.play.audio(now, len(in.audio)); gap >= in.s.Pace && len(in.result.Gaps) < mostGaps {
		in.result.Gaps = append(in.result.Gaps, gap)
	}
	in.echo.receive(now, in.audio)
	if in.s.Keep {
		in.result.Audio = append(in.result.Audio, in.audio...)
		in.result.Arrivals = append(in.result.Arrivals, Arrival{now, len(in.audio)})
	}
	in.mu.Unlock()
	if in.linger.Load() {
		in.poke()
	}
	return true
}

func (in *listener) measure(n int) {
	report := &in.result
	report.Received.Frames++
	report.Received.Bytes += n
	if n < 3200 {
		report.Small++
	}
	if n%320 != 0 {
		report.Uneven++
	}
	if n > 100_000 {
		report.Large++
	}
}

func (in *listener) invalid(problem string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.result.Invalid++; in.result.Invalid == 1 {
		in.result.Problem = problem
	}
}

// poke wakes the talker.
func (l *line) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

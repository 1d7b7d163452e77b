package wav

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/budget"
)

// parsed is a file as a player sees it.
type parsed struct {
	RIFF, Data            uint32
	Tag, Channels, Bits   uint16
	Rate, ByteRate, Frame int
	Left, Right           []int16
}

func parse(t *testing.T, file []byte) (p parsed) {
	t.Helper()
	if len(file) < 44 || string(file[:4]) != "RIFF" || string(file[8:16]) != "WAVEfmt " ||
		string(file[36:40]) != "data" {
		t.Fatalf("no WAV header: %q", file[:min(len(file), 44)])
	}
	u16 := binary.LittleEndian.Uint16
	u32 := binary.LittleEndian.Uint32
	p = parsed{
		RIFF:     u32(file[4:]),
		Data:     u32(file[40:]),
		Tag:      u16(file[20:]),
		Channels: u16(file[22:]),
		Bits:     u16(file[34:]),
		Rate:     int(u32(file[24:])),
		ByteRate: int(u32(file[28:])),
		Frame:    int(u16(file[32:])),
	}
	for rest := file[44:]; len(rest) >= 4; rest = rest[4:] {
		p.Left, p.Right = append(p.Left, int16(u16(rest))), append(p.Right, int16(u16(rest[2:])))
	}
	return p
}

func newWriter(t *testing.T, w io.Writer, rate int) *Writer {
	t.Helper()
	out, err := NewWriter(w, rate)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tone is ms milliseconds of one value at 8 kHz.
func tone(value int16, ms int) []byte {
	var pcm []byte
	for range ms * 8 {
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(value))
	}
	return pcm
}

// run is how long one value lasts, in milliseconds at 8 kHz.
type run struct {
	Value int16
	Ms    int
}

func runs(samples []int16) (list []run) {
	for i := 0; i < len(samples); {
		n := i
		for n < len(samples) && samples[n] == samples[i] {
			n++
		}
		list = append(list, run{samples[i], (n - i) / 8})
		i = n
	}
	return list
}

const ms = time.Millisecond

// action is one call of the Writer.
type action struct {
	at    time.Duration
	from  Channel
	value int16 // 0: a clear
	ms    int
}

func play(t *testing.T, w *Writer, actions []action) {
	t.Helper()
	for _, a := range actions {
		if a.value == 0 {
			must(t, w.Clear(a.at))
			continue
		}
		must(t, w.Write(a.from, a.at, tone(a.value, a.ms)))
	}
}

// beat is a side that speaks in frames of 20 ms.
func beat(c Channel, value int16, from, to time.Duration) (list []action) {
	for at := from; at < to; at += 20 * ms {
		list = append(list, action{at, c, value, 20})
	}
	return list
}

func sorted(lists ...[]action) []action {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b action) int { return int(a.at - b.at) })
	return all
}

func TestWriterAligns(t *testing.T) {
	for name, tc := range map[string]struct {
		actions             []action
		end                 time.Duration
		wantLeft, wantRight []run
		wantDropped         int
	}{
		"nothing": {},
		"caller alone": {beat(Caller, 1, 0, 2*time.Second), 2 * time.Second,
			[]run{{1, 2000}}, []run{{0, 2000}}, 0},
		"agent alone, once": {
			[]action{{300 * ms, Agent, 2, 400}},
			time.Second,
			[]run{{0, 1000}},
			[]run{{0, 300}, {2, 400}, {0, 300}},
			0,
		},
		"one after the other": {sorted(beat(Caller, 1, 0, time.Second), beat(Agent, 2, time.Second, 2*time.Second)),
			2 * time.Second,
			[]run{{1, 1000}, {0, 1000}}, []run{{0, 1000}, {2, 1000}}, 0},
		"both at once": {
			sorted(beat(Caller, 1, 0, time.Second), beat(Agent, 2, 0, time.Second)),
			time.Second,
			[]run{{1, 1000}},
			[]run{{2, 1000}},
			0,
		},
		"agent says all at once, and again": {sorted(beat(Caller, 1, 0, 3*time.Second), []action{
			{500 * ms, Agent, 2, 1000},
			{600 * ms, Agent, 3, 500},
		}), 3 * time.Second,
			[]run{{1, 3000}}, []run{{0, 500}, {2, 1000}, {3, 500}, {0, 1000}}, 0},
		"a clear drops what was not heard": {sorted(beat(Caller, 1, 0, 3*time.Second), []action{
			{0, Agent, 2, 2000},
			{700 * ms, Agent, 0, 0},
			{900 * ms, Agent, 3, 100},
		}),
			3 * time.Second, []run{{1, 3000}}, []run{{2, 700}, {0, 200}, {3, 100}, {0, 2000}}, 0},
		"the end drops what was not heard": {sorted(beat(Caller, 1, 0, time.Second),
			[]action{{500 * ms, Agent, 2, 2000}}),
			time.Second,
			[]run{{1, 1000}}, []run{{0, 500}, {2, 500}}, 0},
		"jitter is not silence": {
			[]action{{0, Caller, 1, 20}, {90 * ms, Caller, 1, 20}, {95 * ms, Caller, 1, 60}, {100 * ms, Caller, 1, 20}},
			120 * ms,
			[]run{{1, 120}}, []run{{0, 120}}, 0},
		"a pause is": {
			[]action{{0, Caller, 1, 20}, {220 * ms, Caller, 1, 20}},
			240 * ms,
			[]run{{1, 20}, {0, 200}, {1, 20}},
			[]run{{0, 240}},
			0,
		},
		"a long pause": {
			[]action{{0, Caller, 1, 20}, {time.Minute, Caller, 1, 20}},
			time.Minute + 20*ms,
			[]run{{1, 20}, {0, 60_000 - 20}, {1, 20}},
			[]run{{0, 60_020}},
			0,
		},
		"a clock that runs backward": {
			[]action{{time.Second, Caller, 1, 20}, {0, Agent, 2, 20}},
			time.Second + 20*ms,
			[]run{{0, 1000}, {1, 20}},
			[]run{{0, 500}, {2, 20}, {0, 500}},
			0,
		},
		"more than a minute ahead": {[]action{{0, Agent, 2, 59_000}, {10 * ms, Agent, 3, 3000}}, 70 * time.Second,
			[]run{{0, 70_000}}, []run{{2, 59_000}, {3, 1000}, {0, 10_000}}, 16000},
	} {
		t.Run(name, func(t *testing.T) {
			var file bytes.Buffer
			writer := newWriter(t, &file, 8000)
			play(t, writer, tc.actions)
			must(t, writer.Close(tc.end))
			got := parse(t, file.Bytes())
			if d := cmp.Diff(tc.wantLeft, runs(got.Left)); d != "" {
				t.Errorf("left (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.wantRight, runs(got.Right)); d != "" {
				t.Errorf("right (-want +got):\n%s", d)
			}
			if writer.Dropped() != tc.wantDropped {
				t.Errorf("%d samples dropped, want %d", writer.Dropped(), tc.wantDropped)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	for name, tc := range map[string]struct {
		file func(t *testing.T) (io.Writer, func() []byte)
		want uint32 // size in the file after Close
	}{
		"a file":   {realFile, 8000 * 4},
		"a stream": {func(*testing.T) (io.Writer, func() []byte) { b := &bytes.Buffer{}; return b, b.Bytes }, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			writer, content := tc.file(t)
			w := newWriter(t, writer, 16000)
			must(t, w.Write(Caller, 0, tone(1, 1000))) // half a second at 16 kHz
			cut := parse(t, content())
			want := parsed{
				RIFF:     unknown,
				Data:     unknown,
				Tag:      1,
				Channels: 2,
				Bits:     16,
				Rate:     16000,
				ByteRate: 64000,
				Frame:    4,
			}
			cut.Left = nil
			cut.Right = nil
			if d := cmp.Diff(want, cut); d != "" {
				t.Errorf("while it is written (-want +got):\n%s", d)
			}
			must(t, w.Close(500*ms))
			done := parse(t, content())
			if tc.want != unknown {
				want.RIFF = tc.want + 36
			}
			if want.Data = tc.want; len(done.Left) != 8000 || len(done.Right) != 8000 {
				t.Errorf("%d and %d samples", len(done.Left), len(done.Right))
			}
			done.Left = nil
			done.Right = nil
			if d := cmp.Diff(want, done); d != "" {
				t.Errorf("when it is finished (-want +got):\n%s", d)
			}
			if h := parse(t, w.Header()); h.Data != 8000*4 || h.RIFF != 8000*4+36 {
				t.Errorf("the right header says %d in %d", h.Data, h.RIFF)
			}
		})
	}
}

func realFile(t *testing.T) (io.Writer, func() []byte) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "call.wav")
	file, err := os.Create(name)
	must(t, err)
	t.Cleanup(func() { _ = file.Close() })
	return file, func() []byte {
		data, err := os.ReadFile(name)
		must(t, err)
		return data
	}
}

// TestCutFile verifies that the file of a process that died holds whole samples of all but the last half second.
func TestCutFile(t *testing.T) {
	var file bytes.Buffer
	writer := newWriter(t, &file, 8000)
	play(t, writer, sorted(beat(Caller, 1, 0, 10*time.Second), beat(Agent, 2, 0, 10*time.Second)))
	if n := file.Len() - 44; n%4 != 0 || n < 9400*8*4 {
		t.Errorf("%d bytes of audio are written after 10 s", n)
	}
	got := parse(t, file.Bytes())
	if d := cmp.Diff(
		[][]run{{{1, len(got.Left) / 8}}, {{2, len(got.Left) / 8}}}, [][]run{runs(got.Left), runs(got.Right)},
	); d != "" {
		t.Errorf("audio (-want +got):\n%s", d)
	}
}

// TestMemoryIsBounded verifies that a long talk, and an agent that sends far too much, use bounded memory.
func TestMemoryIsBounded(t *testing.T) {
	writer := newWriter(t, io.Discard, 8000)
	frame := tone(1, 20)
	for at := time.Duration(0); at < 5*time.Minute; at += 20 * ms {
		must(t, writer.Write(Caller, at, frame))
		must(t, writer.Write(Agent, at, frame))
		must(t, writer.Write(Agent, at, frame)) // twice what can be heard
	}
	if most := 2 * 2 * 60 * 8000; cap(writer.lanes[Agent].data) > 2*most ||
		cap(writer.lanes[Caller].data) > roomToKeep*2 {
		t.Errorf("%d and %d bytes are kept", cap(writer.lanes[Agent].data), cap(writer.lanes[Caller].data))
	}
	must(t, writer.Clear(5*time.Minute))
	must(t, writer.Write(Caller, 5*time.Minute+time.Second, frame))
	if kept := cap(writer.lanes[Agent].data); kept > roomToKeep {
		t.Errorf("%d bytes are kept of what was dropped", kept)
	}
	if writer.Dropped() == 0 {
		t.Error("nothing was dropped, the test tests nothing")
	}
}

// TestMemoryIsShared verifies that the files of agents that speak far ahead share one bound, in addition to each one's
// own. Dropped audio is counted.
func TestMemoryIsShared(t *testing.T) {
	memory := budget.New(160_000) // ten seconds of one side
	for name, end := range map[string]func(*Writer) error{
		"closed":    func(w *Writer) error { return w.Close(30 * time.Second) },
		"discarded": func(w *Writer) error { w.Discard(); return nil },
		"cleared":   func(w *Writer) error { return w.Clear(0) },
		"written":   func(w *Writer) error { return w.Write(Caller, time.Minute, tone(1, 20)) },
	} {
		var file bytes.Buffer
		one := newWriter(t, &file, 8000).Within(memory)
		two := newWriter(t, io.Discard, 8000).Within(memory)
		second := tone(3, 1000)
		for range 30 {
			must(t, one.Write(Agent, 0, second))
		}
		// Two seconds of both sides are its own, which are four of one.
		if n := one.lanes[Agent].len(); n != 14*8000 || one.Dropped() != 16*8000 || memory.InUse() != 160_000 {
			t.Errorf("%s: %d samples are kept, %d dropped, %d bytes in use", name, n, one.Dropped(), memory.InUse())
		}
		must(t, two.Write(Caller, 0, second))
		must(t, two.Write(Agent, 0, second))
		if two.Dropped() != 0 {
			t.Errorf("%s: another file lost %d samples", name, two.Dropped())
		}
		must(t, end(one))
		if memory.InUse() != 0 {
			t.Errorf("%s: %d bytes are in use", name, memory.InUse())
		}
		if name == "closed" {
			if d := cmp.Diff([]run{{3, 14_000}, {0, 16_000}}, runs(parse(t, file.Bytes()).Right)); d != "" {
				t.Errorf("the agent's side (-want +got):\n%s", d)
			}
		}
		two.Discard()
	}
	writer := newWriter(t, io.Discard, 8000)
	if writer.Discard(); !errors.Is(writer.Write(Caller, 0, tone(1, 20)), ErrClosed) {
		t.Error("a discarded file takes audio")
	}
}

// TestHowFramesAreCutMakesNoDifference verifies that the cut of the frames does not change the file, even inside a
// sample.
func TestHowFramesAreCutMakesNoDifference(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		audio := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(rt, "audio")
		var whole, cut bytes.Buffer
		writer := newWriter(t, &whole, 8000)
		b := newWriter(t, &cut, 8000)
		must(t, writer.Write(Caller, 0, audio))
		for rest := audio; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "piece")
			must(t, b.Write(Caller, 0, rest[:n]))
			rest = rest[n:]
		}
		must(t, writer.Close(time.Second))
		must(t, b.Close(time.Second))
		if d := cmp.Diff(parse(t, whole.Bytes()), parse(t, cut.Bytes())); d != "" {
			rt.Errorf("(-whole +cut):\n%s", d)
		}
	})
}

func TestNothingIsAllocated(t *testing.T) {
	writer := newWriter(t, io.Discard, 8000)
	frame := tone(1, 20)
	at := time.Duration(0)
	step := func() {
		must(t, writer.Write(Caller, at, frame[:319])) // an odd size
		must(t, writer.Write(Agent, at, frame))
		must(t, writer.Write(Caller, at, frame[319:]))
		at += 20 * ms
	}
	for range 200 {
		step()
	}
	if n := testing.AllocsPerRun(200, step); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// failing accepts left bytes and then fails.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// WriteAt fails: the header cannot be corrected.
func (f *failing) WriteAt([]byte, int64) (int, error) { return 0, errFull }

func TestWriterFails(t *testing.T) {
	if _, err := NewWriter(&failing{10}, 8000); !errors.Is(err, errFull) {
		t.Errorf("header: %v", err)
	}
	for _, rate := range []int{0, -1, 1 << 20} {
		if _, err := NewWriter(io.Discard, rate); err == nil || !strings.Contains(err.Error(), "not a sample rate") {
			t.Errorf("rate %d: %v", rate, err)
		}
	}
	writer := newWriter(t, &failing{44}, 8000)
	must(t, writer.Write(Caller, 0, tone(1, 100)))
	for what, err := range map[string]error{
		"write": writer.Write(Caller, time.Minute, nil),
		"again": writer.Write(Agent, 0, nil),
		"clear": writer.Clear(0),
		"close": writer.Close(0),
	} {
		if !errors.Is(err, errFull) {
			t.Errorf("%s: %v, want the first error to stay", what, err)
		}
	}
	if err := newWriter(t, &failing{100}, 8000).Close(0); !errors.Is(err, errFull) {
		t.Errorf("the header's sizes: %v", err)
	}
	writer = newWriter(t, io.Discard, 8000)
	must(t, writer.Close(0))
	if err := writer.Write(Caller, 0, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if err := writer.Close(0); !errors.Is(err, ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

package exotelsim

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

// TestPlayback is the caller's ear at 8 kHz: 16 bytes are a millisecond.
func TestPlayback(t *testing.T) {
	type step struct {
		at     time.Duration
		do     string // audio of 20 ms, mark of a name, clear, due
		name   string
		want   []string      // of due and clear
		silent time.Duration // before audio
	}
	for name, steps := range map[string][]step{
		"a mark with nothing before it is due at once": {{
			at:   5 * ms,
			do:   "mark",
			name: "a",
		}, {
			at:   5 * ms,
			do:   "due",
			want: []string{"a"},
		}},
		"a mark waits for its audio": {{
			at: 0,
			do: "audio",
		}, {
			at: 1 * ms,
			do: "audio",
		}, {
			at:   2 * ms,
			do:   "mark",
			name: "a",
		}, {
			at: 39 * ms,
			do: "due",
		},
			{at: 40 * ms, do: "due", want: []string{"a"}}, {at: 41 * ms, do: "due"}},
		"marks come in order": {{
			at:   0,
			do:   "mark",
			name: "a",
		}, {
			at: 0,
			do: "audio",
		}, {
			at:   0,
			do:   "mark",
			name: "b",
		}, {
			at: 0,
			do: "audio",
		}, {
			at:   0,
			do:   "mark",
			name: "c",
		},
			{at: 20 * ms, do: "due", want: []string{"a", "b"}}, {at: 40 * ms, do: "due", want: []string{"c"}}},
		"late audio leaves a gap": {{
			at: 100 * ms,
			do: "audio",
		}, {
			at:     125 * ms,
			do:     "audio",
			silent: 5 * ms,
		}, {
			at: 140 * ms,
			do: "audio",
		}},
		"a clear drops audio and its marks": {{
			at: 0,
			do: "audio",
		}, {
			at:   0,
			do:   "mark",
			name: "a",
		}, {
			at: 0,
			do: "audio",
		}, {
			at:   0,
			do:   "mark",
			name: "b",
		},
			{
				at:   30 * ms,
				do:   "clear",
				want: []string{"b"},
			}, {
				at:   40 * ms,
				do:   "due",
				want: []string{"a"},
			}, {
				at:   30 * ms,
				do:   "mark",
				name: "c",
			},
			{at: 30 * ms, do: "due", want: []string{"c"}}},
		"after a clear nothing was silent": {{
			at: 0,
			do: "audio",
		}, {
			at: 10 * ms,
			do: "clear",
		}, {
			at: 500 * ms,
			do: "audio",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := playback{bytesPerSecond: 16000}
			for i, s := range steps {
				var got []string
				var silent time.Duration
				switch s.do {
				case "audio":
					silent = p.audio(s.at, 320)
				case "mark":
					p.mark(s.at, s.name)
				case "clear":
					got = p.clear(s.at)
				case "due":
					got = p.due(s.at)
				}
				if d := cmp.Diff(s.want, got); d != "" || silent != s.silent {
					t.Errorf("step %d: silent for %s, want %s; marks (-want +got):\n%s", i, silent, s.silent, d)
				}
			}
		})
	}
}

// TestEchoFollows what comes back of 10 frames of 320 bytes, sent 20 ms apart and all received at 1 s.
func TestEchoFollows(t *testing.T) {
	audio := Noise(1000) // 2000 bytes, repeated
	sent := appendRing(nil, audio, 0, 3200)
	frame := func(from, to int) []byte { return bytes.Clone(sent[from*320 : to*320]) }
	flipped := frame(2, 3)
	flipped[17] ^= 1
	for name, tc := range map[string]struct {
		expect      []byte
		pieces      [][]byte
		want        Echo
		wantLatency int // how many
	}{
		"all":                {audio, [][]byte{frame(0, 4), frame(4, 10)}, Echo{Equal: 3200}, 10},
		"cut in another way": {audio, [][]byte{sent[:1], sent[1:999], sent[999:2001], sent[2001:]}, Echo{Equal: 3200}, 10},
		"nothing":            {audio, nil, Echo{Missing: 3200}, 0},
		"the end is missing": {audio, [][]byte{frame(0, 7), frame(7, 8)[:100]}, Echo{
			Equal:   2340,
			Missing: 860,
		}, 7},
		"the beginning is lost": {audio, [][]byte{frame(2, 10)}, Echo{Equal: 2560, Lost: 640}, 8},
		"the middle is lost":    {audio, [][]byte{frame(0, 3), frame(5, 10)}, Echo{Equal: 2560, Lost: 640}, 8},
		"lost around the file":  {audio, [][]byte{frame(0, 5), frame(8, 10)}, Echo{Equal: 2240, Lost: 960}, 7},
		"one bit is wrong": {audio, [][]byte{frame(0, 2), flipped, frame(3, 10)}, Echo{
			Equal: 3199,
			Wrong: 1,
		}, 10},
		"a frame is another": {audio, [][]byte{frame(0, 2), make([]byte, 320), frame(3, 10)}, Echo{
			Equal: 2880,
			Wrong: 320,
		}, 10},
		"a frame comes twice": {audio, [][]byte{frame(0, 2), frame(1, 10)}, Echo{
			Equal: 640,
			Wrong: 2560,
			Extra: 320,
		}, 10},
		"more than was sent":        {audio, [][]byte{frame(0, 10), frame(0, 1)}, Echo{Equal: 3200, Extra: 320}, 10},
		"nothing is expected":       {nil, [][]byte{make([]byte, 3200)}, Echo{Equal: 3200}, 10},
		"nothing expected, missing": {nil, [][]byte{make([]byte, 320)}, Echo{Equal: 320, Missing: 2880}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := echo{expect: tc.expect}
			for i := range 10 {
				e.send(time.Duration(i)*20*ms, 320)
			}
			for _, p := range tc.pieces {
				e.receive(time.Second, p)
			}
			got := e.finish()
			if name == "a frame comes twice" { // some bytes of noise are equal by chance
				got.Wrong = got.Wrong + got.Equal - 640
				got.Equal = 640
			}
			if name == "a frame is another" {
				got.Wrong = got.Wrong + got.Equal - 2880
				got.Equal = 2880
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if len(e.latency) != tc.wantLatency ||
				tc.wantLatency == 10 && (e.latency[0] != time.Second || e.latency[9] != 820*ms) {
				t.Errorf("latencies %v, want %d", e.latency, tc.wantLatency)
			}
			if whole := got.Whole(); whole != (got == Echo{Equal: 3200}) {
				t.Errorf("%+v is whole: %v", got, whole)
			}
		})
	}
}

func TestNoiseOccursOnce(t *testing.T) {
	noise := Noise(24000)
	for at := 0; at+64 <= len(noise); at += 321 {
		if n := bytes.Count(noise, noise[at:at+64]); n != 1 {
			t.Fatalf("the noise at %d occurs %d times", at, n)
		}
	}
	if got := PCM(Samples(noise)); !bytes.Equal(got, noise) {
		t.Error("samples and back is another noise")
	}
	for _, x := range Samples(noise) {
		if x < -8192 || x > 8191 {
			t.Fatalf("a sample of %d", x)
		}
	}
}

package resample

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func newResampler(t *testing.T, from, to int) *Resampler {
	t.Helper()
	resampler, err := New(from, to)
	if err != nil {
		t.Fatal(err)
	}
	return resampler
}

func sine(hz, amplitude float64, rate, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(math.Round(amplitude * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))))
	}
	return out
}

// fit finds the amplitude of a frequency in samples, and the power of everything else, by least squares: the phase is free, so
// that the filter's delay does not count.
func fit(samples []int16, hz float64, rate int) (amplitude, noise float64) {
	var s, c float64
	w := 2 * math.Pi * hz / float64(rate)
	for i, x := range samples {
		s += float64(x) * math.Sin(w*float64(i))
		c += float64(x) * math.Cos(w*float64(i))
	}
	n := float64(len(samples))
	s = 2 * s / n
	c = 2 * c / n
	for i, x := range samples {
		noise += math.Pow(float64(x)-s*math.Sin(w*float64(i))-c*math.Cos(w*float64(i)), 2)
	}
	return math.Hypot(s, c), noise / n
}

// TestSine checks that a tone in the telephony band comes out as it went in, without other tones.
func TestSine(t *testing.T) {
	const amplitude = 10000.0
	for _, rate := range []struct{ from, to int }{
		{8000, 16000},
		{8000, 24000},
		{16000, 8000},
		{24000, 8000},
		{8000, 8000},
	} {
		for _, hz := range []float64{100, 300, 1000, 2500, 3200} {
			t.Run(fmt.Sprintf("%d to %d at %v Hz", rate.from, rate.to, hz), func(t *testing.T) {
				out := newResampler(t, rate.from, rate.to).Append(nil, sine(hz, amplitude, rate.from, rate.from*2))
				if len(out) != rate.to*2 {
					t.Fatalf("%d samples, want %d", len(out), rate.to*2)
				}
				got, noise := fit(out[rate.to/2:rate.to*3/2], hz, rate.to) // whole periods, the filter filled
				snr := 10 * math.Log10(got*got/2/noise)
				if math.Abs(20*math.Log10(got/amplitude)) > 0.1 || snr < 55 {
					t.Errorf(
						"amplitude %.1f of %.0f, signal to noise %.1f dB, want within 0.1 dB and 55 dB",
						got,
						amplitude,
						snr,
					)
				}
			})
		}
	}
}

// TestFoldedBand verifies that the filter removes what 8 kHz cannot carry, and does not fold it into the speech.
func TestFoldedBand(t *testing.T) {
	for rate, list := range map[int][]float64{16000: {4700, 6000, 7500}, 24000: {4700, 7000, 9000, 11500}} {
		for _, hz := range list {
			out := newResampler(t, rate, 8000).Append(nil, sine(hz, 10000, rate, rate))
			var power float64
			for _, x := range out[2000:] {
				power += float64(x) * float64(x)
			}
			rms := math.Sqrt(power / float64(len(out)-2000))
			if db := 20 * math.Log10(rms*math.Sqrt2/10000); db > -55 {
				t.Errorf("%v Hz at %d comes through at %.1f dB, want less than -55", hz, rate, db)
			}
		}
	}
}

func TestConstantPassesExactly(t *testing.T) {
	for _, rate := range []struct{ from, to int }{{8000, 16000}, {8000, 24000}, {16000, 8000}, {24000, 8000}} {
		for _, level := range []int16{0, 1, -1, 12345, math.MaxInt16, math.MinInt16} {
			in := make([]int16, 1200)
			for i := range in {
				in[i] = level
			}
			out := newResampler(t, rate.from, rate.to).Append(nil, in)
			for i, x := range out[lobe*3:] {
				if x != level {
					t.Fatalf("%d to %d: %d becomes %d at %d", rate.from, rate.to, level, x, i)
				}
			}
		}
	}
}

// TestLoudSquareIsClipped verifies that samples are clipped where the filter overshoots after an edge. A wrapped sample
// would crack.
func TestLoudSquareIsClipped(t *testing.T) {
	in := make([]int16, 800)
	for i := range in {
		in[i] = math.MaxInt16
		if i/100%2 == 1 {
			in[i] = math.MinInt16
		}
	}
	for _, rate := range []struct{ from, to int }{{8000, 16000}, {8000, 24000}, {16000, 8000}, {24000, 8000}} {
		out := newResampler(t, rate.from, rate.to).Append(nil, in)
		clipped := 0
		crossings := 0
		for i := lobe * rate.to / narrow; i < len(out); i++ {
			if out[i] == math.MaxInt16 || out[i] == math.MinInt16 {
				clipped++
			}
			if (out[i] < 0) != (out[i-1] < 0) {
				crossings++
			}
		}
		if crossings != 7 {
			t.Errorf("%d to %d: %d crossings of zero, want one for each of 7 edges", rate.from, rate.to, crossings)
		}
		if clipped == 0 {
			t.Errorf("%d to %d: nothing is clipped, the test tests nothing", rate.from, rate.to)
		}
	}
}

// TestHowFramesAreCutMakesNoDifference verifies that neither the cut of the frames nor audio before a Reset changes the
// output.
func TestHowFramesAreCutMakesNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		factor := rapid.IntRange(1, 3).Draw(t, "factor")
		from := narrow
		to := narrow * factor
		if rapid.Bool().Draw(t, "down") {
			from, to = to, from
		}
		in := rapid.SliceOfN(rapid.Int16(), 0, 500).Draw(t, "samples")
		whole, err := New(from, to)
		if err != nil {
			t.Fatal(err)
		}
		want := whole.Append(nil, in)
		cut, err := New(from, to)
		if err != nil {
			t.Fatal(err)
		}
		cut.Append(nil, rapid.SliceOfN(rapid.Int16(), 0, 50).Draw(t, "past"))
		cut.Reset()
		var got []int16
		for rest := in; len(rest) > 0; {
			n := rapid.IntRange(0, min(len(rest), 170)).Draw(t, "frame")
			got = cut.Append(got, rest[:n])
			rest = rest[n:]
			if n == 0 {
				got = cut.Append(got, rest[:1])
				rest = rest[1:]
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d to %d (-whole +cut):\n%s", from, to, d)
		}
		if n := (len(in)*to + from - 1) / from; len(want) != n {
			t.Errorf("%d samples of %d become %d, want %d", len(in), from, len(want), n)
		}
	})
}

func TestNothingIsAllocated(t *testing.T) {
	for _, rate := range []struct{ from, to int }{
		{8000, 8000},
		{8000, 16000},
		{8000, 24000},
		{16000, 8000},
		{24000, 8000},
	} {
		resampler := newResampler(t, rate.from, rate.to)
		in := make([]int16, rate.from/50)
		out := make([]int16, 0, rate.to/50+1)
		resampler.Append(out, in)
		if n := testing.AllocsPerRun(100, func() { resampler.Append(out, in) }); n != 0 {
			t.Errorf("%d to %d: %v allocations", rate.from, rate.to, n)
		}
	}
}

func TestRatesThatCannotBeConverted(t *testing.T) {
	for _, rate := range []struct{ from, to int }{
		{16000, 16000},
		{16000, 24000},
		{8000, 48000},
		{44100, 8000},
		{8000, 0},
		{8000, 12000},
		{0, 0},
	} {
		if _, err := New(rate.from, rate.to); err == nil || !strings.Contains(err.Error(), "one must be 8000") {
			t.Errorf("%d to %d: %v", rate.from, rate.to, err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, rate := range []struct{ from, to int }{{16000, 8000}, {24000, 8000}, {8000, 16000}, {8000, 24000}} {
		b.Run(fmt.Sprintf("%dto%d", rate.from, rate.to), func(b *testing.B) {
			resampler, err := New(rate.from, rate.to)
			if err != nil {
				b.Fatal(err)
			}
			in := make([]int16, rate.from/50)
			out := make([]int16, 0, rate.to/50+1)
			for b.Loop() {
				resampler.Append(out, in)
			}
		})
	}
}

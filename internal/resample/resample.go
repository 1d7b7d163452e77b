// Package resample converts 16-bit speech between 8 kHz and its double and triple, as a stream.
package resample

import (
	"fmt"
	"math"
)

const (
	// narrow is telephony's sample rate, on one side of every conversion.
	narrow = 8000
	// lobe is the taps of the filter for each sample of the narrow side. 24 of them keep the band up to 3.4 kHz within 0.1 dB
	// and what would fold into it 60 dB down; the delay is lobe/2 narrow samples, 1.5 ms.
	lobe = 24
	// beta of the Kaiser window for 60 dB.
	beta = 5.65
	// one in the filter's fixed point.
	one = 1 << 15
)

// filters by factor.
var filters = map[int][]int32{2: design(2), 3: design(3)}

// design makes a low-pass at the narrow side's half rate. Each of its phases sums to one, so that silence and a constant pass exactly.
func design(factor int) []int32 {
	n := lobe * factor
	taps := make([]int32, n)
	for phase := range factor {
		exact := make([]float64, 0, lobe)
		sum := 0.0
		for i := phase; i < n; i += factor {
			exact = append(exact, windowedSinc(i, n, factor))
			sum += exact[len(exact)-1]
		}
		rest := int32(one)
		for k, e := range exact {
			taps[phase+k*factor] = int32(math.Round(e / sum * one))
			rest -= taps[phase+k*factor]
		}
		taps[phase+lobe/2*factor] += rest // what rounding left over, where it is least of the tap
	}
	return taps
}

func windowedSinc(i, n, factor int) float64 {
	x := float64(i) - float64(n-1)/2
	w := bessel(beta*math.Sqrt(1-math.Pow(2*x/float64(n-1), 2))) / bessel(beta)
	a := math.Pi * x / float64(factor)
	return w * math.Sin(a) / a // n is even: x is never 0
}

// bessel is the modified Bessel function of the first kind and order 0.
func bessel(x float64) float64 {
	sum := 1.0
	term := 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= x / (2 * k) * x / (2 * k)
		sum += term
	}
	return sum
}

// Resampler converts one stream. What it gives depends on the samples alone, not on how they were cut into frames.
type Resampler struct {
	factor  int
	up      bool
	taps    []int32 // nil: nothing to convert
	samples []int16 // the past that the filter still needs, then what is new
	next    int     // index in samples of the first that the next output needs; only down
}

// New returns a Resampler between two rates. One is 8 kHz, the other 8, 16 or 24 kHz.
func New(from, to int) (*Resampler, error) {
	wide := max(from, to)
	if min(from, to) != narrow || wide != narrow && wide != 2*narrow && wide != 3*narrow {
		return nil, fmt.Errorf(
			"cannot convert from %d to %d samples a second: one must be 8000, the other 8000, 16000 or 24000", from, to,
		)
	}
	resampler := &Resampler{factor: wide / narrow, up: to > from}
	resampler.taps = filters[resampler.factor]
	resampler.Reset()
	return resampler, nil
}

// Reset forgets the past: the next sample is the first of a stream.
func (r *Resampler) Reset() {
	past := len(r.taps)
	if r.up {
		past = lobe
	}
	r.samples = append(r.samples[:0], make([]int16, max(0, past-1))...)
	r.next = 0
}

// Append converts samples and appends the result to dst.
func (r *Resampler) Append(dst, samples []int16) []int16 {
	if r.taps == nil {
		return append(dst, samples...)
	}
	r.samples = append(r.samples, samples...)
	if r.up {
		return r.interpolate(dst)
	}
	return r.decimate(dst)
}

func (r *Resampler) decimate(dst []int16) []int16 {
	n := len(r.taps)
	gain := one * r.factor // each phase has a gain of one
	for ; r.next+n <= len(r.samples); r.next += r.factor {
		sum := 0
		for i, x := range r.samples[r.next : r.next+n] {
			sum += int(x) * int(r.taps[i])
		}
		dst = append(dst, scale(sum, gain))
	}
	r.forget(min(r.next, len(r.samples)))
	return dst
}

func (r *Resampler) interpolate(dst []int16) []int16 {
	at := 0
	for ; at+lobe <= len(r.samples); at++ {
		window := r.samples[at : at+lobe]
		for phase := range r.factor {
			// The newest sample meets the first tap of its phase; the filter is symmetric, so phases run backwards instead.
			taps := r.taps[r.factor-1-phase:]
			sum := 0
			for i, x := range window {
				sum += int(x) * int(taps[i*r.factor])
			}
			dst = append(dst, scale(sum, one))
		}
	}
	r.forget(at)
	return dst
}

// forget moves what is still needed to the front.
func (r *Resampler) forget(n int) {
	r.samples = r.samples[:copy(r.samples, r.samples[n:])]
	r.next = max(0, r.next-n)
}

// scale divides a sum by the filter's gain, rounds it, and clips it to a sample.
func scale(sum, gain int) int16 {
	half := gain / 2
	if sum < 0 {
		half = -half
	}
	return int16(min(max((sum+half)/gain, math.MinInt16), math.MaxInt16))
}

package g711

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// decisions are the decision values of table 2a of G.711 in 14 bits: 0, 1, then 15 steps of 2, and 16 steps of 4, 8 ... 256.
func decisions() []int {
	d := []int{0, 1}
	for step, n := 2, 15; step <= 256; step, n = step*2, 16 {
		for range n {
			d = append(d, d[len(d)-1]+step)
		}
	}
	return d
}

// interval is the number of the interval that a magnitude of 14 bits lies in; the last one takes everything louder.
func interval(magnitude int) int {
	d := decisions()
	for n := range 127 {
		if magnitude < d[n+1] {
			return n
		}
	}
	return 127
}

func TestDecisionValues(t *testing.T) { // of the table in the Recommendation, so that the other tests stand on it
	d := decisions()
	got := []int{len(d), d[1], d[2], d[16], d[32], d[48], d[64], d[80], d[96], d[112], d[128]}
	if diff := cmp.Diff([]int{129, 1, 3, 31, 95, 223, 479, 991, 2015, 4063, 8159}, got); diff != "" {
		t.Errorf("decision values (-want +got):\n%s", diff)
	}
}

func TestEncodeEverySample(t *testing.T) {
	for x := -32768; x <= 32767; x++ {
		magnitude := x
		sign := byte(0x80)
		if x < 0 {
			magnitude = -x - 1
			sign = 0
		}
		// Code words count down from 127 in the Recommendation's table, all of their bits inverted but the sign's.
		want := sign | byte(127-interval(magnitude>>2))
		if got := Encode(int16(x)); got != want {
			t.Fatalf("sample %d is coded %#02x, want %#02x", x, got, want)
		}
	}
}

func TestDecodeEveryCode(t *testing.T) {
	d := decisions()
	for c := range 256 {
		n := 127 - c&127
		want := (d[n] + d[n+1]) / 2 * 4 // the middle of the interval; that of the first is 0, not half a step
		if c < 128 {
			want = -want
		}
		if got := int(Decode(byte(c))); got != want {
			t.Errorf("code %#02x is decoded %d, want %d", c, got, want)
		}
	}
}

// TestRoundTrip of every sample stays within half a quantizer's step, or within the clip of what is louder than G.711 codes.
func TestRoundTrip(t *testing.T) {
	d := decisions()
	for x := -32768; x <= 32767; x++ {
		magnitude := max(x, -x-1)
		n := interval(magnitude >> 2)
		half := (d[n+1] - d[n]) * 4 / 2
		if n == 0 {
			half = 4 // decoded to its lower end
		}
		if magnitude>>2 > ceiling {
			half = 32768 - 32124
		}
		if diff := x - int(Decode(Encode(int16(x)))); max(diff, -diff) > half {
			t.Fatalf("sample %d comes back %d off, want at most %d", x, diff, half)
		}
	}
}

func TestCodesComeBack(t *testing.T) {
	for c := range 256 {
		want := byte(c)
		if want == 0x7f { // minus zero: linear PCM has one zero alone
			want = 0xff
		}
		if got := Encode(Decode(byte(c))); got != want {
			t.Errorf("code %#02x comes back %#02x", c, got)
		}
	}
}

// TestKnownVectors are from the tables that decoders have had since the first ones.
func TestKnownVectors(t *testing.T) {
	for name, tc := range map[string]struct {
		codes []byte
		want  []int16
	}{
		"around zero": {[]byte{0xff, 0x7f, 0xfe, 0x7e}, []int16{0, 0, 8, -8}},
		"loudest":     {[]byte{0x80, 0x00, 0x81}, []int16{32124, -32124, 31100}},
		"segments' ends": {
			[]byte{0x8f, 0x90, 0x9f, 0xa0, 0xaf, 0xb0, 0xc0, 0xef, 0xf0},
			[]int16{16764, 15996, 8316, 7932, 4092, 3900, 1884, 132, 120},
		},
		"digital milliwatt": {
			[]byte{0x1e, 0x0b, 0x0b, 0x1e, 0x9e, 0x8b, 0x8b, 0x9e},
			[]int16{-8828, -20860, -20860, -8828, 8828, 20860, 20860, 8828},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, AppendDecode(nil, tc.codes)); diff != "" {
				t.Errorf("samples (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppend(t *testing.T) {
	if diff := cmp.Diff([]byte{1, 0xff, 0x80, 0x00}, AppendEncode([]byte{1}, []int16{0, 32767, -32768})); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int16{1, 0, -8}, AppendDecode([]int16{1}, []byte{0xff, 0x7e})); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	codes := make([]byte, 0, 480)
	samples := make([]int16, 480)
	if n := testing.AllocsPerRun(100, func() { AppendDecode(samples[:0], AppendEncode(codes, samples)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Package g711 converts between 16-bit linear PCM and the mu-law of ITU-T G.711, which has 14 bits of range in 8.
package g711

const (
	// bias makes the segments powers of two: a magnitude of 14 bits plus 33 has its highest bit in its segment.
	bias = 33
	// ceiling is the largest magnitude that G.711 codes; louder samples are clipped.
	ceiling = 8158
)

var (
	decoded [256]int16
	encoded [8192]byte // by magnitude: 8 KiB stay in the first-level cache, 64 KiB by sample would not
)

func init() {
	for c := range decoded {
		decoded[c] = expand(byte(c))
	}
	for m := range encoded {
		encoded[m] = compress(m)
	}
}

// expand is the decoder of G.711: the middle of the interval that a code stands for.
func expand(code byte) int16 {
	c := ^code
	segment := c >> 4 & 7
	step := int16(c & 15)
	v := ((step<<1+bias)<<segment - bias) << 2
	if c&0x80 != 0 {
		return -v
	}
	return v
}

// compress codes a magnitude of 14 bits as a positive sample.
func compress(magnitude int) byte {
	m := min(magnitude, ceiling) + bias
	segment := 0
	for m >= 64<<segment {
		segment++
	}
	return ^byte(segment<<4 | m>>(segment+1)&15) //nolint:gosec // 7 bits
}

// Encode one sample. As in the ITU's own software (G.191) a negative sample is inverted, not negated: so the lowest has a magnitude too.
func Encode(x int16) byte {
	sign := x >> 15                               // -1 or 0
	return encoded[(x^sign)>>2] ^ byte(sign)&0x80 //nolint:gosec // the low bits of -1 or 0 are what is asked for
}

// Decode one code.
func Decode(code byte) int16 { return decoded[code] }

// AppendEncode appends the codes of samples to dst.
func AppendEncode(dst []byte, samples []int16) []byte {
	for _, x := range samples {
		dst = append(dst, Encode(x))
	}
	return dst
}

// AppendDecode appends the samples of codes to dst.
func AppendDecode(dst []int16, codes []byte) []int16 {
	for _, c := range codes {
		dst = append(dst, decoded[c])
	}
	return dst
}

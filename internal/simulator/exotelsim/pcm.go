package exotelsim

import "encoding/binary"

// Noise is n samples of 16-bit PCM at a quarter of full scale. Every stretch of it occurs once, so that it can be found again.
func Noise(n int) []byte {
	pcm := make([]byte, 0, 2*n)
	for i := range n {
		pcm = binary.LittleEndian.AppendUint16(
			pcm, uint16(int16(mix(uint64(i)))>>2),
		) //nolint:gosec // any 16 bits will do
	}
	return pcm
}

// Samples of 16-bit little-endian PCM.
func Samples(pcm []byte) []int16 {
	samples := make([]int16, len(pcm)/2)
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(pcm[2*i:])) //nolint:gosec // two's complement
	}
	return samples
}

// PCM is the opposite of Samples.
func PCM(samples []int16) []byte {
	pcm := make([]byte, 0, 2*len(samples))
	for _, x := range samples {
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(x)) //nolint:gosec // two's complement
	}
	return pcm
}

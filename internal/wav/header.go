// Package wav writes calls as WAV files while they run, and reads the files that a simulated caller speaks.
package wav

import "encoding/binary"

const (
	headerSize = 44
	bits       = 16
	// unknown size of a chunk: up to the end of the file. What plays WAV from a pipe writes and reads it, ffmpeg and sox among others.
	unknown = 0xFFFFFFFF
	// pcmFormat and extensible are the two tags that PCM comes under.
	pcmFormat  = 1
	extensible = 0xFFFE
)

// header of a file with so many bytes of audio, or unknown.
func header(rate, channels int, data uint32) []byte {
	riff := data
	if data != unknown {
		riff += headerSize - 8
	}
	frame := channels * bits / 8
	h := append(make([]byte, 0, headerSize), "RIFF"...)
	h = binary.LittleEndian.AppendUint32(h, riff)
	h = append(h, "WAVEfmt "...)
	h = binary.LittleEndian.AppendUint32(h, 16)
	h = binary.LittleEndian.AppendUint16(h, pcmFormat)
	h = binary.LittleEndian.AppendUint16(h, uint16(channels))   //nolint:gosec // 1 or 2
	h = binary.LittleEndian.AppendUint32(h, uint32(rate))       //nolint:gosec // at most 24,000
	h = binary.LittleEndian.AppendUint32(h, uint32(rate*frame)) //nolint:gosec // at most 96,000
	h = binary.LittleEndian.AppendUint16(h, uint16(frame))      //nolint:gosec // 2 or 4
	h = binary.LittleEndian.AppendUint16(h, bits)
	h = append(h, "data"...)
	return binary.LittleEndian.AppendUint32(h, data)
}

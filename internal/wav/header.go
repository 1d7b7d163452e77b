// Package wav writes calls as WAV files while they run, and reads the files that a simulated caller speaks.
package wav

import (
	"encoding/binary"
	"math"
)

// HeaderSize is the number of bytes before the audio of a call's file.
const HeaderSize = headerSize

const (
	headerSize = 44
	bits       = 16
	// unknown size of a chunk: up to the end of the file. What plays WAV from a pipe writes and reads it, ffmpeg and sox among others.
	unknown = 0xFFFFFFFF
	// pcmFormat and extensible are the two tags that PCM comes under.
	pcmFormat  = 1
	extensible = 0xFFFE
)

// CallHeader returns the header of a call's file with data bytes of audio of both sides. Beyond 4 GiB, half a day at
// 24 kHz, it says that the size is unknown.
func CallHeader(rate int, data int64) []byte {
	if data > math.MaxUint32-headerSize {
		data = unknown
	}
	return header(rate, int(channels), uint32(data))
}

// SizeOf returns how many bytes of audio a call's file has by its header. ok is false for an unknown size or an
// invalid header.
func SizeOf(h []byte) (data int64, ok bool) {
	if len(h) < headerSize || string(h[:4]) != "RIFF" || string(h[36:40]) != "data" {
		return 0, false
	}
	size := binary.LittleEndian.Uint32(h[40:])
	return int64(size), size != unknown
}

// header returns the header of a file with data bytes of audio, or of unknown size.
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

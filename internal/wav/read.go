package wav

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Audio of a file.
type Audio struct {
	// Rate in samples a second: 8000, 16000 or 24000.
	Rate int
	// PCM is 16-bit little-endian samples of one channel.
	PCM []byte
}

// mostChunks bounds what stands before the audio.
const mostChunks = 1000

// Read reads a mono file of 16-bit PCM at a rate that Exotel has, with at most most bytes of audio. A file that was
// cut, or whose size is unknown, is read to its end.
func Read(r io.Reader, most int) (Audio, error) {
	var riff [12]byte
	if _, err := io.ReadFull(r, riff[:]); err != nil {
		return Audio{}, fmt.Errorf("this is not a WAV file, it ends in its header: %w", err)
	}
	if string(riff[:4]) != "RIFF" || string(riff[8:]) != "WAVE" {
		return Audio{}, errors.New("this is not a WAV file: it does not begin with RIFF and WAVE")
	}
	rate := 0
	for range mostChunks {
		id, size, err := readChunk(r)
		if err != nil {
			return Audio{}, err
		}
		switch id {
		case "fmt ":
			rate, err = readFormat(r, size)
		case "data":
			return readData(r, rate, size, most)
		default:
			err = skip(r, int64(size)+int64(size%2))
		}
		if err != nil {
			return Audio{}, err
		}
	}
	return Audio{}, fmt.Errorf("the WAV file has no audio in its first %d chunks", mostChunks)
}

func readChunk(r io.Reader) (id string, size uint32, err error) {
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", 0, fmt.Errorf("the WAV file ends before its audio: %w", err)
	}
	return string(h[:4]), binary.LittleEndian.Uint32(h[4:]), nil
}

func skip(r io.Reader, n int64) error {
	if _, err := io.CopyN(io.Discard, r, n); err != nil {
		return fmt.Errorf("the WAV file ends before its audio: %w", err)
	}
	return nil
}

// readFormat returns the rate of a format that is supported.
func readFormat(r io.Reader, size uint32) (int, error) {
	if size < 16 || size > 1024 {
		return 0, fmt.Errorf("the WAV file's format has %d bytes, which no format has", size)
	}
	f := make([]byte, size+size%2)
	if _, err := io.ReadFull(r, f); err != nil {
		return 0, fmt.Errorf("the WAV file ends in its format: %w", err)
	}
	tag := binary.LittleEndian.Uint16(f)
	if tag == extensible && size >= 26 {
		tag = binary.LittleEndian.Uint16(f[24:]) // the first two bytes of its GUID
	}
	channels := binary.LittleEndian.Uint16(f[2:])
	rate := binary.LittleEndian.Uint32(f[4:])
	width := binary.LittleEndian.Uint16(f[14:])
	switch {
	case tag != pcmFormat:
		return 0, fmt.Errorf("the WAV file's encoding has the tag %d: convert it to PCM, which has 1", tag)
	case channels != 1:
		return 0, fmt.Errorf("the WAV file has %d channels: convert it to mono", channels)
	case width != bits:
		return 0, fmt.Errorf("the WAV file has samples of %d bits: convert it to 16", width)
	case !slices.Contains([]uint32{8000, 16000, 24000}, rate):
		return 0, fmt.Errorf("the WAV file has %d samples a second: convert it to 8000, 16000 or 24000", rate)
	}
	return int(rate), nil
}

func readData(r io.Reader, rate int, size uint32, most int) (Audio, error) {
	if rate == 0 {
		return Audio{}, errors.New("the WAV file has its audio before its format")
	}
	limit := int64(most) + 1
	if size != unknown && size != 0 { // 0 is what a recorder leaves that was killed
		limit = min(limit, int64(size))
	}
	pcm, err := io.ReadAll(io.LimitReader(r, limit))
	switch {
	case err != nil:
		return Audio{}, fmt.Errorf("read the WAV file's audio: %w", err)
	case len(pcm) > most:
		return Audio{}, fmt.Errorf("the WAV file has more than %d bytes of audio: cut it", most)
	case len(pcm) < 2:
		return Audio{}, errors.New("the WAV file has no audio")
	}
	return Audio{Rate: rate, PCM: pcm[:len(pcm)&^1]}, nil
}

// Header returns the header of a mono file with data bytes of audio, for programs that write one.
func Header(rate, data int) []byte {
	return header(rate, 1, uint32(data)) //nolint:gosec // of a file in memory
}

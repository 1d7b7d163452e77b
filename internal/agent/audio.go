package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/g711"
)

// defaultRate is what Exotel sends where nothing else was asked for.
const defaultRate = 8000

// format of the audio on Exotel's side.
type format struct {
	rate int
	ulaw bool // streams that were started on a leg may be mu-law; applets send 16-bit PCM
}

func formatOf(start agentstream.StartInfo) (format, error) {
	f := format{rate: start.SampleRate, ulaw: IsULaw(start.Encoding)}
	switch f.rate {
	case 0:
		f.rate = defaultRate
	case 8000, 16000, 24000:
	default:
		return f, fmt.Errorf(
			"%w: the call has %d samples a second: use sample-rate=8000, 16000 or 24000", ErrRate, f.rate,
		)
	}
	return f, nil
}

// IsULaw knows mulaw, x-mulaw, ulaw and PCMU, with or without a rate behind.
func IsULaw(encoding string) bool {
	e := strings.ToLower(encoding)
	return strings.Contains(e, "ulaw") || strings.Contains(e, "pcmu")
}

// halves makes samples of bytes, over the borders of frames: a frame may end in half a sample.
type halves struct {
	low  byte
	held bool
}

func (h *halves) samples(dst []int16, raw []byte) []int16 {
	if h.held && len(raw) > 0 {
		dst = append(dst, int16(uint16(h.low)|uint16(raw[0])<<8)) //nolint:gosec // two's complement
		raw = raw[1:]
		h.held = false
	}
	for ; len(raw) >= 2; raw = raw[2:] {
		dst = append(dst, int16(binary.LittleEndian.Uint16(raw))) //nolint:gosec // two's complement
	}
	if len(raw) == 1 {
		h.low = raw[0]
		h.held = true
	}
	return dst
}

func appendPCM(dst []byte, samples []int16) []byte {
	for _, x := range samples {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(x)) //nolint:gosec // two's complement
	}
	return dst
}

// withoutBreaks returns base64 text without the line breaks that some encoders write. It uses the buffer only where there are any.
func withoutBreaks(buffer *[]byte, text []byte) []byte {
	if bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0 {
		return text
	}
	*buffer = (*buffer)[:0]
	for _, c := range text {
		if c != '\r' && c != '\n' {
			*buffer = append(*buffer, c)
		}
	}
	return *buffer
}

// decodeBase64 reads standard base64, padded or not.
func decodeBase64(dst, text []byte) ([]byte, error) {
	encoding := base64.StdEncoding
	if len(text)%4 != 0 {
		encoding = base64.RawStdEncoding
	}
	raw, err := encoding.AppendDecode(dst, text)
	if err != nil {
		return dst, fmt.Errorf("%w: the payload of a media message is not base64: %w", ErrFrame, err)
	}
	return raw, nil
}

// source reads Exotel's audio.
type source struct {
	format
	halves  halves
	text    []byte // of a payload, without its line breaks
	raw     []byte
	samples []int16
}

// read returns the samples of a payload, until the next call.
func (s *source) read(payload []byte) ([]int16, error) {
	var err error
	if s.raw, err = decodeBase64(s.raw[:0], withoutBreaks(&s.text, payload)); err != nil {
		return nil, err
	}
	if s.ulaw {
		s.samples = g711.AppendDecode(s.samples[:0], s.raw)
	} else {
		s.samples = s.halves.samples(s.samples[:0], s.raw)
	}
	return s.samples, nil
}

// sink writes audio for Exotel.
type sink struct {
	format
	sid       []byte
	raw, text []byte
}

// media appends a message with samples; there is none without samples.
func (s *sink) media(dst []byte, samples []int16) Out {
	if len(samples) == 0 {
		return Out{Kind: agentstream.Media, Frame: dst}
	}
	if s.ulaw {
		s.raw = g711.AppendEncode(s.raw[:0], samples)
	} else {
		s.raw = appendPCM(s.raw[:0], samples)
	}
	s.text = base64.StdEncoding.AppendEncode(s.text[:0], s.raw)
	return Out{Kind: agentstream.Media, Frame: agentstream.AppendMedia(dst, s.sid, s.text), Send: true}
}

func (s *sink) mark(dst []byte, name string) Out {
	return Out{Kind: agentstream.Mark, Frame: agentstream.AppendMark(dst, s.sid, []byte(name)), Send: true}
}

func (s *sink) clear(dst []byte) Out {
	return Out{Kind: agentstream.Clear, Frame: agentstream.AppendClear(dst, s.sid), Send: true}
}

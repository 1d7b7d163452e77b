package upload

import "bytes"

// isAudio reports whether a file that begins with head is audio. Exotel's recordings are MP3 or WAV; the other formats
// are those of RFC 4337, RFC 4867, RFC 5334, RFC 9639 and of the containers that Tenants' own hosts are known to serve.
// Some encoders write zeros before the first MP3 frame.
func isAudio(head []byte) bool {
	for _, m := range magics {
		if len(head) >= m.at+len(m.bytes) && string(head[m.at:m.at+len(m.bytes)]) == m.bytes {
			return true
		}
	}
	return isMPEG(bytes.TrimLeft(head, "\x00"))
}

var magics = []struct {
	at    int
	bytes string
}{
	{0, "ID3"},              // MP3 with a tag
	{8, "WAVE"},             // after RIFF, RIFX, RF64 or BW64 and a length
	{0, "OggS"},             // Vorbis, Opus, Speex
	{0, "fLaC"},             //
	{4, "ftyp"},             // MP4: m4a, 3gp
	{0, "#!AMR"},            // AMR and AMR-WB
	{0, ".snd"},             // AU
	{8, "AIFF"},             // after FORM and a length
	{8, "AIFC"},             //
	{0, "\x1a\x45\xdf\xa3"}, // Matroska, WebM
	{0, "\x30\x26\xb2\x75"}, // ASF: wma
}

// isMPEG reports whether b begins with the frame of an MPEG audio stream: layer II or III, or AAC in ADTS. If the next
// frame begins within b, it must be one as well: text in UTF-16 begins like a frame.
func isMPEG(b []byte) bool {
	n, ok := frameLength(b)
	if !ok {
		return false
	}
	if len(b) < n+4 {
		return true
	}
	_, ok = frameLength(b[n:])
	return ok
}

// Bit rates in kbit/s by the index of a frame's header (ISO/IEC 11172-3, 13818-3). Index 0 is a free rate and 15 is
// invalid; neither is used by encoders.
var (
	rates1Layer2 = [16]int{0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384}
	rates1Layer3 = [16]int{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}
	rates2       = [16]int{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}
	sampleRates1 = [4]int{44100, 48000, 32000}
	aacRates     = 13 // sampling frequencies of ADTS (ISO/IEC 13818-7)
)

// frameLength reads a frame's header and returns the frame's length in bytes.
func frameLength(b []byte) (int, bool) {
	if len(b) < 4 || b[0] != 0xff || b[1]&0xe0 != 0xe0 {
		return 0, false
	}
	version, layer := b[1]>>3&3, b[1]>>1&3
	if b[1]&0xf6 == 0xf0 { // layer 0 of MPEG-2 or 4
		return adtsLength(b)
	}
	var rate int // in kbit/s
	samples := sampleRates1[b[2]>>2&3]
	switch {
	case version == 1 || layer == 0 || layer == 3: // reserved, or layer I, which nobody uses
		return 0, false
	case version == 3 && layer == 1:
		rate = rates1Layer3[b[2]>>4]
	case version == 3:
		rate = rates1Layer2[b[2]>>4]
	default: // MPEG-2 has half of the sample rates and MPEG-2.5 a quarter
		rate, samples = rates2[b[2]>>4], samples>>(1+(version>>1^1))
	}
	if rate == 0 || samples == 0 {
		return 0, false
	}
	size := 144_000 * rate / samples
	if version != 3 && layer == 1 {
		size /= 2
	}
	return size + int(b[2]>>1&1), true
}

// adtsLength reads a header of AAC in ADTS, of 7 bytes.
func adtsLength(b []byte) (int, bool) {
	if len(b) < 7 || int(b[2]>>2&15) >= aacRates {
		return 0, false
	}
	n := int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5]>>5)
	return n, n >= 7
}

package upload

import (
	"bytes"
	"net/http"
	"unicode/utf8"
)

// headSize is how much of a file is looked at. It has three frames after the rest of a cut one, at 320 kbit/s.
const headSize = 4 << 10

// isAudio reports whether a file that begins with head is audio. Exotel's recordings are MP3 or WAV; the other formats
// are those of RFC 4337, RFC 4867, RFC 5334, RFC 9639 and of the containers that Tenants' own hosts are known to serve.
// Some encoders write zeros before the first MP3 frame. What follows ID3 tags that end within head must be audio too.
func isAudio(head []byte) bool {
	if end := tagsEnd(head); end > 0 {
		if len(head)-end < minHeader {
			return true
		}
		head = head[end:]
	}
	for _, m := range magics {
		if at(head, 0, m.begins) && at(head, m.at, m.bytes) {
			return !isPicture(head)
		}
	}
	return isMPEG(bytes.TrimLeft(head, "\x00")) || isCutMPEG(head)
}

// at reports whether head has the text want at offset at.
func at(head []byte, at int, want string) bool {
	return len(head) >= at+len(want) && string(head[at:at+len(want)]) == want
}

var magics = []struct {
	begins string
	at     int
	bytes  string
}{
	{"RIFF", 8, "WAVE"},
	{"RIFX", 8, "WAVE"},         // big endian
	{"RF64", 8, "WAVE"},         // more than 4 GiB
	{"BW64", 8, "WAVE"},         //
	{"OggS", 0, ""},             // Vorbis, Opus, Speex
	{"fLaC", 0, ""},             //
	{"", 4, "ftyp"},             // MP4: m4a, 3gp
	{"#!AMR", 0, ""},            // AMR and AMR-WB
	{".snd", 0, ""},             // AU
	{"FORM", 8, "AIFF"},         //
	{"FORM", 8, "AIFC"},         //
	{"\x1a\x45\xdf\xa3", 0, ""}, // Matroska, WebM
	{"\x30\x26\xb2\x75", 0, ""}, // ASF: wma
}

// isPicture reports whether an MP4 holds a picture (ISO/IEC 23008-12).
func isPicture(head []byte) bool {
	for _, brand := range []string{"avif", "avis", "heic", "heix", "hevc", "mif1", "msf1"} {
		if at(head, 4, "ftyp"+brand) {
			return true
		}
	}
	return false
}

// tagsEnd returns how many bytes come before the audio of a file that begins with ID3 tags: the tags, and the zeros
// after each of them. It is len(head) or more if they do not end within head, and 0 without a tag.
func tagsEnd(head []byte) (end int) {
	for end < len(head) {
		n := tagLength(head[end:])
		if n == 0 {
			break
		}
		end += n
		if end < len(head) {
			end = len(head) - len(bytes.TrimLeft(head[end:], "\x00"))
		}
	}
	return end
}

// tagLength returns the length of the tag at the beginning of b, 0 if there is none: ID3 2.2 to 2.4. The size in its
// header has seven bits a byte. That size counts neither the header nor the footer of ID3 2.4, of 10 bytes each.
func tagLength(b []byte) int {
	if !at(b, 0, "ID3") || len(b) < 10 || b[3] < 2 || b[3] > 4 {
		return 0
	}
	length := 10
	if b[3] == 4 && b[5]&0x10 != 0 {
		length += 10
	}
	for i, size := range b[6:10] {
		if size >= 0x80 {
			return 0
		}
		length += int(size) << (7 * (3 - i))
	}
	return length
}

// minHeader is the length of a frame's header.
const minHeader = 4

// isMPEG reports whether b begins with the frame of an MPEG audio stream: layer II or III, or AAC in ADTS. If the next
// frame begins within b, it must be one of the same stream: text in UTF-16 begins like a frame.
func isMPEG(b []byte) bool {
	n, ok := frameLength(b)
	if !ok {
		return false
	}
	return len(b) < n+minHeader || follows(b, n)
}

// isCutMPEG reports whether b has three frames of one MPEG audio stream in a row. A recording that was cut begins with
// the rest of a frame or of a tag.
func isCutMPEG(b []byte) bool {
	switch http.DetectContentType(b) {
	case "application/octet-stream":
	case "text/plain; charset=utf-8": // the answer for all that has no control characters, even if it is not UTF-8
		if utf8.Valid(b) {
			return false
		}
	default: // a known format
		return false
	}
	for ; len(b) >= minHeader; b = b[1:] {
		first, ok := frameLength(b)
		if !ok || !follows(b, first) {
			continue
		}
		if second, ok := frameLength(b[first:]); ok && follows(b[first:], second) {
			return true
		}
	}
	return false
}

// follows reports whether a frame of the same stream begins n bytes after the one at the beginning of b: its version,
// layer and sample rate are the same.
func follows(b []byte, n int) bool {
	if len(b) < n+minHeader {
		return false
	}
	_, ok := frameLength(b[n:])
	return ok && (b[1]^b[n+1])&0xfe == 0 && (b[2]^b[n+2])&0x0c == 0
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
	if len(b) >= minHeader && b[0] == 0xff && b[1]&0xf6 == 0xf0 { // layer 0 of MPEG-2 or 4
		return adtsLength(b)
	}
	mpegFrame, ok := readFrame(b)
	return mpegFrame.length, ok
}

// mpegFrame is what the header of a frame of layer II or III says.
type mpegFrame struct {
	length int // in bytes
	rate   int // in kbit/s
	hertz  int
	// samples of each channel, and how many bytes come before what the first frame of a file may say of the file.
	samples, side int
}

// readFrame decodes the header of an MPEG audio frame. It returns false for reserved values, free
// bit rates and layer I.
func readFrame(b []byte) (f mpegFrame, ok bool) {
	if len(b) < minHeader || b[0] != 0xff || b[1]&0xe0 != 0xe0 {
		return f, false
	}
	version := b[1] >> 3 & 3
	layer := b[1] >> 1 & 3
	mono := b[3]>>6 == 3
	f.hertz = sampleRates1[b[2]>>2&3]
	f.samples = 1152
	switch {
	case version == 1 || layer == 0 || layer == 3: // reserved, or layer I, which nobody uses
		return f, false
	case version == 3 && layer == 1:
		f.rate = rates1Layer3[b[2]>>4]
	case version == 3:
		f.rate = rates1Layer2[b[2]>>4]
	default: // MPEG-2 has half of the sample rates and MPEG-2.5 a quarter
		f.rate = rates2[b[2]>>4]
		f.hertz >>= (1 + (version>>1 ^ 1))
	}
	if f.rate == 0 || f.hertz == 0 {
		return f, false
	}
	f.length = 144_000 * f.rate / f.hertz
	f.side = 36
	if mono {
		f.side = 21
	}
	if version != 3 {
		if f.side = 21; mono {
			f.side = 13
		}
		if layer == 1 {
			f.length /= 2
			f.samples = 576
		}
	}
	f.length += int(b[2] >> 1 & 1)
	return f, true
}

// adtsLength reads a header of AAC in ADTS, of 7 bytes.
func adtsLength(b []byte) (int, bool) {
	if len(b) < 7 || int(b[2]>>2&15) >= aacRates {
		return 0, false
	}
	n := int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5]>>5)
	return n, n >= 7
}

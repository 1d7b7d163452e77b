package upload

import (
	"bytes"
	"encoding/binary"
	"time"
)

// audioDuration returns how long a file plays that begins with head and has a size in bytes, -1 if that is unknown.
// Only WAV and MP3 say so in their first bytes, and an MP3 can be counted if head is all of it. It returns 0 for a file
// that does not say it.
func audioDuration(head []byte, size int64) time.Duration {
	start := tagsEnd(head)
	if start >= len(head) {
		return 0
	}
	start = len(head) - len(bytes.TrimLeft(head[start:], "\x00"))
	if size >= 0 {
		size = max(0, size-int64(start))
	}
	if head = head[start:]; at(head, 0, "RIFF") && at(head, 8, "WAVE") {
		return wavDuration(head, size)
	}
	return mp3Duration(head, size)
}

// wavDuration reads the chunks that come before the audio.
func wavDuration(head []byte, size int64) time.Duration {
	perSecond := int64(0)
	for i := 12; i+8 <= len(head); {
		length := int64(binary.LittleEndian.Uint32(head[i+4:]))
		switch body := i + 8; string(head[i : i+4]) {
		case "fmt ":
			if body+12 <= len(head) {
				perSecond = int64(binary.LittleEndian.Uint32(head[body+8:]))
			}
		case "data":
			if rest := size - int64(body); size >= 0 && length > rest { // also when it is not known
				length = rest
			}
			if length == 1<<32-1 {
				return 0
			}
			return seconds(length, perSecond)
		}
		if length > int64(len(head)) {
			return 0
		}
		i += 8 + int(length+length%2)
	}
	return 0
}

// mp3Duration takes the number of frames that encoders write into the first one, else it counts the frames if b is the
// whole file. The first frames of a file do not say how many follow: those of a variable bit rate may be equal.
func mp3Duration(b []byte, size int64) time.Duration {
	first, ok := readFrame(b)
	if !ok {
		return 0
	}
	count, described := countedFrames(b, first)
	if wait := seconds(count*int64(first.samples), int64(first.hertz)); wait > 0 {
		return wait
	}
	if int64(len(b)) != size {
		return 0
	}
	if described { // it describes the others, and has no audio
		b = b[min(first.length, len(b)):]
	}
	return seconds(samplesOf(b, first.hertz), int64(first.hertz))
}

// countedFrames returns how many frames of audio the first one says that the file has, 0 if that is not known, and
// whether it describes the file at all. Encoders of variable rates write Xing or VBRI, those of a constant rate Info:
// https://www.codeproject.com/Articles/8295/MPEG-Audio-Frame-Header (sections 2.3.1 and 2.3.2).
func countedFrames(b []byte, first mpegFrame) (count int64, described bool) {
	const vbriAt = minHeader + 32
	info := b[min(first.side, len(b)):]
	if at(info, 0, "Xing") || at(info, 0, "Info") {
		if len(info) >= 12 && info[7]&1 == 1 {
			count = int64(binary.BigEndian.Uint32(info[8:]))
		}
		return count, true
	}
	if info = b[min(vbriAt, len(b)):]; at(info, 0, "VBRI") && len(info) >= 18 {
		return int64(binary.BigEndian.Uint32(info[14:])), true
	}
	return 0, false
}

// samplesOf returns how many samples the frames of a whole file have, 0 unless they follow one another to its end.
func samplesOf(b []byte, hertz int) (samples int64) {
	for len(b) >= minHeader {
		mpegFrame, ok := readFrame(b)
		switch {
		case !ok && endsAudio(b):
			return samples
		case !ok || mpegFrame.hertz != hertz:
			return 0
		}
		if mpegFrame.length > len(b) { // players leave a frame out that is cut
			return samples
		}
		samples += int64(mpegFrame.samples)
		b = b[mpegFrame.length:]
	}
	return samples
}

// endsAudio reports whether tags and zeros are all that comes after the frames of an MP3. A tag that is followed by
// something else begins the next file of several that were joined.
func endsAudio(b []byte) bool {
	for {
		b = bytes.TrimLeft(b, "\x00")
		if len(b) == 0 {
			return true
		}
		n := endTagLength(b)
		if n <= 0 || n > len(b) {
			return false
		}
		b = b[n:]
	}
}

// endTagLength returns the length of the tag at the beginning of b, 0 if there is none. The tags are those that end a
// file: ID3v1, which is its last 128 bytes (https://id3.org/ID3v1); ID3v2; APEv2, whose header has a size that does not
// count the header (https://wiki.hydrogenaudio.org/index.php?title=APE_Tags_Header); and Lyrics3
// (https://id3.org/Lyrics3v2).
func endTagLength(b []byte) int {
	const (
		id3v1     = 128
		apeHeader = 32
	)
	switch {
	case at(b, 0, "TAG") && len(b) == id3v1:
		return id3v1
	case at(b, 0, "APETAGEX") && len(b) >= apeHeader:
		return apeHeader + int(binary.LittleEndian.Uint32(b[12:]))
	case at(b, 0, "LYRICSBEGIN"):
		for _, end := range []string{"LYRICS200", "LYRICSEND"} {
			if i := bytes.Index(b, []byte(end)); i > 0 {
				return i + len(end)
			}
		}
	}
	return tagLength(b)
}

// seconds returns n / perSecond, and 0 for what no recording can be.
func seconds(n, perSecond int64) time.Duration {
	const most = 30 * 24 * time.Hour
	if n <= 0 || perSecond <= 0 || n/perSecond > int64(most/time.Second) {
		return 0
	}
	return time.Duration(float64(n) / float64(perSecond) * float64(time.Second))
}

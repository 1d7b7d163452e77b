package upload

import (
	"bytes"
	"encoding/binary"
	"time"
)

// audioDuration returns how long a file plays that begins with head and has a size in bytes, -1 if that is unknown.
// Only WAV and MP3 say so in their first bytes; it returns 0 for what does not.
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

// mp3Duration takes the number of frames that encoders write into the first one, or the length of a file whose frames
// all have one bit rate.
func mp3Duration(b []byte, size int64) time.Duration {
	first, ok := readFrame(b)
	if !ok {
		return 0
	}
	if info := b[min(first.side, len(b)):]; (at(info, 0, "Xing") || at(info, 0, "Info")) && len(info) >= 12 &&
		info[7]&1 == 1 {
		return seconds(int64(binary.BigEndian.Uint32(info[8:]))*int64(first.samples), int64(first.hertz))
	}
	frames := 0
	for rest := b; len(rest) >= minHeader; frames++ {
		f, ok := readFrame(rest)
		if !ok || f.rate != first.rate || f.hertz != first.hertz {
			return 0
		}
		rest = rest[min(f.length, len(rest)):]
	}
	if frames < 2 || size < 0 {
		return 0
	}
	return seconds(size, int64(first.rate)*125)
}

// seconds returns n / perSecond, and 0 for what no recording can be.
func seconds(n, perSecond int64) time.Duration {
	const most = 30 * 24 * time.Hour
	if n <= 0 || perSecond <= 0 || n/perSecond > int64(most/time.Second) {
		return 0
	}
	return time.Duration(float64(n) / float64(perSecond) * float64(time.Second))
}

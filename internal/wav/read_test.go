package wav

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// file is a WAV file of chunks.
func file(chunks ...[]byte) []byte {
	return append([]byte("RIFF\x00\x00\x00\x00WAVE"), bytes.Join(chunks, nil)...)
}

func chunkOf(id string, size int, data string) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte(id), uint32(size)), data...)
}

// format is a format chunk, with what is behind its 16 bytes.
func format(tag, channels, rate, width int, more string) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(tag))
	b = binary.LittleEndian.AppendUint16(b, uint16(channels))
	b = binary.LittleEndian.AppendUint32(b, uint32(rate))
	b = append(b, "byterat!"[:6]...)
	b = binary.LittleEndian.AppendUint16(b, uint16(width))
	return chunkOf("fmt ", 16+len(more), string(b)+more)
}

var good = format(1, 1, 8000, 16, "")

func TestRead(t *testing.T) {
	guid := "\x10\x00\x00\x00\x00\x00" + "\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
	for name, tc := range map[string]struct {
		file []byte
		want Audio
		says string
	}{
		"plain": {file(good, chunkOf("data", 4, "abcd")), Audio{8000, []byte("abcd")}, ""},
		"16 kHz": {
			file(format(1, 1, 16000, 16, ""), chunkOf("data", 4, "abcd")),
			Audio{16000, []byte("abcd")},
			"",
		},
		"24 kHz": {
			file(format(1, 1, 24000, 16, ""), chunkOf("data", 4, "abcd")),
			Audio{24000, []byte("abcd")},
			"",
		},
		"extensible": {
			file(format(0xfffe, 1, 8000, 16, "\x16\x00"+guid), chunkOf("data", 2, "ab")),
			Audio{8000, []byte("ab")},
			"",
		},
		"longer format": {
			file(format(1, 1, 8000, 16, "\x00\x00"), chunkOf("data", 2, "ab")),
			Audio{8000, []byte("ab")},
			"",
		},
		"other chunks": {
			file(chunkOf("LIST", 3, "abc\x00"), good, chunkOf("fact", 4, "1234"), chunkOf("data", 2, "ab")),
			Audio{8000, []byte("ab")},
			"",
		},
		"something behind": {
			file(good, chunkOf("data", 2, "ab"), chunkOf("LIST", 2, "xx")),
			Audio{8000, []byte("ab")},
			"",
		},
		"cut":                    {file(good, chunkOf("data", 100, "abc")), Audio{8000, []byte("ab")}, ""},
		"unknown size":           {file(good, chunkOf("data", unknown, "abcd")), Audio{8000, []byte("abcd")}, ""},
		"size that was not told": {file(good, chunkOf("data", 0, "abcd")), Audio{8000, []byte("abcd")}, ""},
		"empty":                  {nil, Audio{}, "this is not a WAV file, it ends in its header"},
		"an MP3": {
			[]byte("ID3\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
			Audio{},
			"does not begin with RIFF and WAVE",
		},
		"an AVI":        {[]byte("RIFF\x00\x00\x00\x00AVI "), Audio{}, "does not begin with RIFF and WAVE"},
		"header alone":  {file(), Audio{}, "ends before its audio"},
		"no audio":      {file(good), Audio{}, "ends before its audio"},
		"empty audio":   {file(good, chunkOf("data", 0, "")), Audio{}, "has no audio"},
		"half a sample": {file(good, chunkOf("data", 1, "a")), Audio{}, "has no audio"},
		"too much": {
			file(good, chunkOf("data", 18, strings.Repeat("x", 18))),
			Audio{},
			"more than 16 bytes of audio: cut it",
		},
		"too much, unknown size": {
			file(good, chunkOf("data", unknown, strings.Repeat("x", 18))),
			Audio{},
			"more than 16 bytes of audio: cut it",
		},
		"audio before the format": {file(chunkOf("data", 2, "ab"), good), Audio{}, "audio before its format"},
		"mu-law": {
			file(format(7, 1, 8000, 8, ""), chunkOf("data", 2, "ab")),
			Audio{},
			"tag 7: convert it to PCM",
		},
		"extensible, floats": {file(format(0xfffe, 1, 8000, 16, "\x16\x00"+guid[:6]+"\x03"+guid[7:]),
			chunkOf("data", 2, "ab")),
			Audio{},
			"tag 3: convert it to PCM"},
		"stereo": {
			file(format(1, 2, 8000, 16, ""), chunkOf("data", 4, "abcd")),
			Audio{},
			"2 channels: convert it to mono",
		},
		"8 bits": {
			file(format(1, 1, 8000, 8, ""), chunkOf("data", 2, "ab")),
			Audio{},
			"samples of 8 bits: convert it to 16",
		},
		"CD": {
			file(format(1, 1, 44100, 16, ""), chunkOf("data", 2, "ab")),
			Audio{},
			"44100 samples a second: convert it to 8000, 16000 or 24000",
		},
		"short format":         {file(chunkOf("fmt ", 14, "12345678901234")), Audio{}, "format has 14 bytes"},
		"endless format":       {file(chunkOf("fmt ", 0xfffffff0, "1234")), Audio{}, "which no format has"},
		"cut in its format":    {file(chunkOf("fmt ", 16, "1234")), Audio{}, "ends in its format"},
		"cut in another chunk": {file(chunkOf("LIST", 1<<31, "1234")), Audio{}, "ends before its audio"},
		"nothing but chunks": {
			file(bytes.Repeat(chunkOf("junk", 0, ""), mostChunks+1)),
			Audio{},
			"no audio in its first 1000 chunks",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Read(iotest.OneByteReader(bytes.NewReader(tc.file)), 16)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("audio (-want +got):\n%s", d)
			}
			if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
	if _, err := Read(
		io.MultiReader(bytes.NewReader(file(good, chunkOf("data", 4, "ab"))), iotest.ErrReader(io.ErrNoProgress)), 16,
	); err == nil {
		t.Error("a file that cannot be read is read")
	}
}

func TestReadWhatHeaderWrites(t *testing.T) {
	got, err := Read(bytes.NewReader(append(Header(24000, 4), "abcdLISTx"...)), 100)
	if d := cmp.Diff(Audio{24000, []byte("abcd")}, got); err != nil || d != "" {
		t.Errorf("%v; (-want +got):\n%s", err, d)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(file(good, chunkOf("data", 4, "abcd")))
	f.Add(
		file(
			chunkOf("LIST", 3, "abc\x00"),
			format(0xfffe, 1, 16000, 16, strings.Repeat("\x01\x00", 12)),
			chunkOf("data", unknown, "abcd"),
		),
	)
	f.Add(file(format(1, 1, 24000, 16, "\x00"), chunkOf("data", 0, "abc")))
	f.Fuzz(func(t *testing.T, data []byte) {
		audio, err := Read(bytes.NewReader(data), 1000)
		if err != nil {
			if audio.PCM != nil {
				t.Error("audio with an error")
			}
			return
		}
		if len(audio.PCM) < 2 || len(audio.PCM)%2 != 0 || len(audio.PCM) > 1000 ||
			audio.Rate != 8000 && audio.Rate != 16000 && audio.Rate != 24000 {
			t.Errorf("%d bytes at %d", len(audio.PCM), audio.Rate)
		}
		if !bytes.Contains(data, audio.PCM) {
			t.Error("audio that is not in the file")
		}
	})
}

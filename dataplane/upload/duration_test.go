package upload

import (
	"strings"
	"testing"
	"time"

	wave "github.com/caly-dev/caly/internal/wav"
)

// TestAudioDuration reads how long files play. frames makes them of 26 ms at 44.1 kHz, and of 36 ms at 16 kHz.
func TestAudioDuration(t *testing.T) {
	xing := func(header string, side int, frames string) string {
		return header + strings.Repeat("\x00", side-len(header)) + "Xing\x00\x00\x00\x01" + frames
	}
	vbri := func(frames string) string {
		return "\xff\xfb\x90\xc4" + strings.Repeat("\x00", 32) + "VBRI\x00\x01\x00\x00\x00\x64" +
			"\x00\x00\x00\x00" + frames
	}
	cbr := frames("\xff\xf3\x48\xc4", 144, 40)
	vbr := cbr + frames("\xff\xf3\x58\xc4", 180, 60)
	id3v1 := "TAG" + strings.Repeat("x", 125)
	id3v2 := "ID3\x04\x00\x00\x00\x00\x00\x05hello"
	ape := "APETAGEX\xd0\x07\x00\x00\x20\x00\x00\x00" + strings.Repeat("\x00", 16) + strings.Repeat("y", 32)
	lyrics := "LYRICSBEGININD0000211LYR00005hello000033LYRICS200"
	noCount := "\xff\xf3\x48\xc4" + strings.Repeat("\x00", 9) + "Info" + strings.Repeat("\x00", 127)
	for name, tc := range map[string]struct {
		file string
		size int64
		want time.Duration
	}{
		"WAV": {string(wave.Header(8000, 16000*5)), 80044, 5 * time.Second},
		"WAV with a chunk before": {"RIFF\xff\xff\xff\xffWAVELIST\x03\x00\x00\x00abc\x00" +
			string(wave.Header(8000, 16000))[12:], 16056, time.Second},
		"WAV of unknown size":   {string(wave.CallHeader(8000, 1<<40)), 44 + 32000*3, 3 * time.Second},
		"WAV, nothing is known": {string(wave.CallHeader(8000, 1<<40)), -1, 0},
		"WAV that is cut":       {string(wave.Header(8000, 16000*5)), 16044, time.Second},
		"MP3 with a count": {xing("\xff\xfb\x90\x04", 36, "\x00\x00\x10\x00"), -1,
			4096 * 1152 * time.Second / 44100},
		"MP3 with a count, mono": {xing("\xff\xf3\x48\xc4", 13, "\x00\x00\x00\x64"), -1,
			3600 * time.Millisecond},
		"MP3 with a count, VBRI":           {vbri("\x00\x00\x10\x00"), -1, 4096 * 1152 * time.Second / 44100},
		"VBRI that is cut":                 {vbri("\x00"), 99999, 0},
		"MP3 whose first frames are equal": {vbr[:headSize], int64(len(vbr)), 0},
		"MP3 of one rate, its beginning":   {cbr[:headSize], 32000 / 8 * 60, 0},
		"MP3, chunked":                     {cbr[:headSize], -1, 0},
		"a whole MP3":                      {cbr, int64(len(cbr)), 40 * 36 * time.Millisecond},
		"a whole MP3 of two rates":         {vbr, int64(len(vbr)), 100 * 36 * time.Millisecond},
		"a whole MP3 with tags": {"ID3\x04\x00\x00\x00\x00\x00\x05hello" + cbr + id3v1,
			15 + int64(len(cbr)) + 128, 40 * 36 * time.Millisecond},
		"a whole MP3 with two tags": {"ID3\x03\x00\x00\x00\x00\x00\x05hello\x00" +
			"ID3\x04\x00\x00\x00\x00\x00\x02hi" + cbr, 28 + int64(len(cbr)), 40 * 36 * time.Millisecond},
		"a whole MP3 with all tags at its end": {cbr + id3v2 + "\x00" + ape + lyrics + id3v1,
			int64(len(cbr + id3v2 + "\x00" + ape + lyrics + id3v1)), 40 * 36 * time.Millisecond},
		"two MP3s that were joined, ID3v2": {id3v2 + cbr + id3v2 + cbr, 2 * int64(len(id3v2+cbr)), 0},
		"two MP3s that were joined, ID3v1": {cbr + id3v1 + cbr + id3v1, 2 * int64(len(cbr+id3v1)), 0},
		"two MP3s that were joined, APE":   {cbr + ape + cbr, int64(len(cbr + ape + cbr)), 0},
		"an MP3 whose ID3v2 is cut":        {cbr + id3v2[:12], int64(len(cbr)) + 12, 0},
		"an MP3 whose ID3v1 is cut":        {cbr + id3v1[:100], int64(len(cbr)) + 100, 0},
		"an MP3, a footer without a tag":   {cbr + "3DI\x04\x00\x00\x00\x00\x00\x05", int64(len(cbr)) + 10, 0},
		"a whole MP3, zeros at its end": {cbr + "\x00\x00\x00\x00\x00", int64(len(cbr)) + 5,
			40 * 36 * time.Millisecond},
		"a whole MP3, its last frame cut": {cbr[:len(cbr)-9], int64(len(cbr)) - 9, 39 * 36 * time.Millisecond},
		"a whole MP3 without its count":   {noCount + cbr, int64(len(noCount + cbr)), 40 * 36 * time.Millisecond},
		"a whole MP3 with a gap":          {cbr + "gap!" + cbr, 2*int64(len(cbr)) + 4, 0},
		"frames of two sampling rates":    {cbr + frames("\xff\xfb\x90\xc4", 417, 2), int64(len(cbr)) + 834, 0},
		"a count of no recording":         {xing("\xff\xfb\x90\x04", 36, "\xff\xff\xff\xff"), -1, 0},
		"Ogg":                             {"OggS\x00\x02", 1000, 0},
		"a byte":                          {"R", 1, 0},
		"a header alone":                  {"RIFF\x00\x00\x00\x00WAVEdata\x01\x00\x00\x00", 21, 0},
		"a frame alone":                   {"\xff\xfb\x90\xc4", 4, 0},
	} {
		got := audioDuration([]byte(tc.file), tc.size)
		if (got - tc.want).Abs() > time.Millisecond {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func FuzzAudioDuration(f *testing.F) {
	f.Add(wave.Header(8000, 16000), int64(16044))
	f.Add([]byte(frames("\xff\xf3\x48\xc4", 144, 2)), int64(288))
	f.Add([]byte(frames("\xff\xf3\x48\xc4", 144, 40)), int64(99999))
	f.Add([]byte(strings.Repeat("ID3\x04\x00\x00\x00\x00\x00\x00\x00", 2)), int64(3))
	f.Add([]byte("ID3\x04\x00\x00\x00\x00\x00\x05hello"), int64(-1))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		if wait := audioDuration(head, size); wait < 0 || wait > 31*24*time.Hour {
			t.Errorf("%v", wait)
		}
	})
}

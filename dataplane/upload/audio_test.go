package upload

import (
	"strings"
	"testing"
)

// frames makes n frames of a header and a length.
func frames(header string, length, n int) string {
	return strings.Repeat(header+strings.Repeat("x", length-len(header)), n)
}

func TestIsAudio(t *testing.T) {
	for name, tc := range map[string]struct {
		head string
		want bool
	}{
		"MP3, 128 kbit/s at 44.1 kHz":          {frames("\xff\xfb\x90\xc4", 417, 2)[:512], true},
		"MP3, padded frames":                   {frames("\xff\xfb\x92\xc4", 418, 2)[:512], true},
		"MP3, MPEG-2, 32 kbit/s at 16 kHz":     {frames("\xff\xf3\x48\xc4", 144, 4)[:512], true},
		"MP3, MPEG-2.5, 16 kbit/s at 8 kHz":    {frames("\xff\xe3\x28\xc4", 144, 4)[:512], true},
		"MP2, 192 kbit/s at 48 kHz":            {frames("\xff\xfd\xa4\x00", 576, 1)[:512], true},
		"MP3 after zeros":                      {strings.Repeat("\x00", 90) + frames("\xff\xfb\x90\xc4", 417, 1), true},
		"MP3 with a tag":                       {"ID3\x03\x00\x00\x00\x00\x0f\x76TIT2", true},
		"WAV":                                  {"RIFF\x24\x08\x00\x00WAVEfmt ", true},
		"WAV of more than 4 GiB":               {"RF64\xff\xff\xff\xffWAVEds64", true},
		"Ogg":                                  {"OggS\x00\x02", true},
		"FLAC":                                 {"fLaC\x00\x00\x00\x22", true},
		"M4A":                                  {"\x00\x00\x00\x20ftypM4A ", true},
		"AMR":                                  {"#!AMR\n", true},
		"AAC in ADTS":                          {frames("\xff\xf1\x50\x80\x03\x3f\xfc", 25, 4), true},
		"text":                                 {"The recording is not ready yet", false},
		"28 bytes of text":                     {"Recording is being processed", false},
		"a page":                               {"<html><body>Sign in</body></html>", false},
		"JSON":                                 {`{"RestException":{"Status":404}}`, false},
		"an empty RIFF that is a picture":      {"RIFF\x24\x08\x00\x00WEBPVP8 ", false},
		"a PNG":                                {"\x89PNG\r\n\x1a\n", false},
		"zeros":                                {strings.Repeat("\x00", 512), false},
		"text in UTF-16, little endian":        {"\xff\xfeh\x00e\x00l\x00l\x00o\x00", false},
		"text in UTF-16, of one line of words": {"\xff\xfe" + strings.Repeat("a\x00", 200), false},
		"a lone frame header":                  {"\xff\xfb\x90\xc4", true},
		"a header of an invalid rate":          {frames("\xff\xfb\xf0\xc4", 417, 1), false},
		"a frame and then something else":      {frames("\xff\xfb\x90\xc4", 417, 1) + "<html>", false},
		"MP3 that begins within a frame":       {frames("\xff\xfb\x90\xc4", 417, 5)[100:], true},
		"MP3 of 320 kbit/s, cut":               {frames("\xff\xfb\xe0\xc4", 1044, 4)[1:], true},
		"MP3 after the end of a tag": {"TXXX\x00\x00\x00\x09\x00\x00call\x00\xff\xfe" +
			frames("\xff\xf3\x48\xc4", 144, 9), true},
		"MP3 with a whole tag": {"ID3\x04\x00\x00\x00\x00\x00\x05hello" +
			frames("\xff\xfb\x90\xc4", 417, 3), true},
		"MP3 with a tag and padding": {"ID3\x04\x00\x00\x00\x00\x00\x05hello" +
			strings.Repeat("\x00", 99), true},
		"MP3 with two tags": {"ID3\x03\x00\x00\x00\x00\x00\x05hello" + "ID3\x04\x00\x00\x00\x00\x00\x02hi" +
			frames("\xff\xfb\x90\xc4", 417, 3), true},
		"MP3 with two tags and padding after each": {"ID3\x03\x00\x00\x00\x00\x00\x05hello\x00\x00" +
			"ID3\x04\x00\x00\x00\x00\x00\x02hi\x00" + frames("\xff\xfb\x90\xc4", 417, 3), true},
		"MP3 with a tag that has a footer": {"ID3\x04\x00\x10\x00\x00\x00\x05hello" +
			"3DI\x04\x00\x10\x00\x00\x00\x05" + frames("\xff\xfb\x90\xc4", 417, 1), true},
		"a short tag and a long one": {"ID3\x03\x00\x00\x00\x00\x00\x05hello" +
			"ID3\x03\x00\x00\x00\x00\x7f\x00TIT2", true},
		"FLAC with a tag": {"ID3\x04\x00\x00\x00\x00\x00\x05hellofLaC\x00\x00\x00\x22", true},
		"AAC with a tag": {"ID3\x04\x00\x00\x00\x00\x00\x05hello" +
			frames("\xff\xf1\x50\x80\x03\x3f\xfc", 25, 4), true},
		"a page after two tags": {strings.Repeat("ID3\x04\x00\x00\x00\x00\x00\x05hello", 2) +
			"<html><body>Sign", false},
		"a PNG after a tag":           {"ID3\x04\x00\x00\x00\x00\x00\x05hello\x89PNG\r\n\x1a\n", false},
		"a page after a tag":          {"ID3\x04\x00\x00\x00\x00\x00\x05hello<html><body>Sign in", false},
		"text that begins like a tag": {"ID3 tags could not be read: the recording is gone", false},
		"a tag of an impossible size": {"ID3\x04\x00\x00\xff\xff\xff\xff", false},
		"two frames in noise":         {"noise\x01" + frames("\xff\xfb\x90\xc4", 417, 2) + "noise", false},
		"frames of three streams": {"\x01" + frames("\xff\xfb\x90\xc4", 417, 1) + frames("\xff\xf3\x48\xc4", 144, 1) +
			frames("\xff\xe3\x28\xc4", 144, 1), false},
		"a JPEG with frames in it":    {"\xff\xd8\xff\xe0" + frames("\xff\xfb\x90\xc4", 417, 5), false},
		"a gzip with frames in it":    {"\x1f\x8b\x08" + frames("\xff\xfb\x90\xc4", 417, 5), false},
		"a picture in an MP4":         {"\x00\x00\x00\x20ftypheic\x00\x00\x00\x00", false},
		"a word at the place of WAVE": {"the new WAVE of calls is not recorded", false},
		"one byte":                    {"\xff", false},
		"a gzip":                      {"\x1f\x8b\x08\x00", false},
		"a PDF":                       {"%PDF-1.7", false},
		"an ISO image of nothing":     {strings.Repeat(" ", 512), false},
		"AAC of no length":            {"\xff\xf1\x50\x80\x00\x00\xfc", false},
	} {
		if got := isAudio([]byte(tc.head)); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func FuzzIsAudio(f *testing.F) {
	f.Add([]byte(frames("\xff\xfb\x90\xc4", 417, 1)))
	f.Add([]byte("\xff\xf1\x50\x80\x03\x3f\xfc"))
	f.Add([]byte("text"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if n, ok := frameLength(head); ok && n <= 0 {
			t.Errorf("a frame of %d bytes", n)
		}
		if isAudio(head) && strings.Trim(string(head), " abcdefghijklmnopqrstuvwxyz") == "" && len(head) < 8 {
			t.Errorf("%q is audio", head)
		}
	})
}

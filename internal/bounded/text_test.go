package bounded_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/caly-dev/caly/internal/bounded"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"as it is, ä and 語":           "as it is, ä and 語",
		"two\r\nlines\tand a NUL\x00": "two  lines and a NUL ",
		"\x1b[31mred\u009b1m":         " [31mred 1m",
		"gpj.\u202e3pm":               "gpj. 3pm", // U+202E would reverse what follows
		"zero\u200bwidth\u2028line":   "zero width line",
		"broken \xff\xc3 bytes":       "broken  bytes",
		strings.Repeat("x", 40):       strings.Repeat("x", 40),
		strings.Repeat("x", 41):       strings.Repeat("x", 36) + " ...",
		strings.Repeat("語", 14):       strings.Repeat("語", 12) + " ...",
		strings.Repeat("\x80", 41):    " ...",
	} {
		if got := bounded.Text(in, 40); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzText checks that whatever a host says is short, valid and printable.
func FuzzText(f *testing.F) {
	f.Add("a\x1b]0;title\a", 8)
	f.Add("\xe8\xaa", 5)
	f.Fuzz(func(t *testing.T, in string, most int) {
		most = 4 + int(uint(most)%1000)
		got := bounded.Text(in, most)
		if len(got) > most || !fit(got) {
			t.Errorf("Text(%q, %d) = %q", in, most, got)
		}
		if len(in) <= most && fit(in) && got != in {
			t.Errorf("Text(%q, %d) = %q, which is not needed", in, most, got)
		}
	})
}

// fit reports whether a text is valid and printable.
func fit(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

package agentstream

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep a message may nest; the protocol needs four.
const maxDepth = 64

// cursor reads one JSON document in place. After the first mistake it stays at its end, and every method answers as if
// there were nothing more.
type cursor struct {
	b       []byte
	i       int
	bad     bool
	wide    bool   // there are bytes beyond ASCII
	scratch []byte // unescaped text; what was cut from it stays as it is
}

func (c *cursor) fail() { c.bad, c.i = true, len(c.b) }

// peek skips white space and returns the byte that follows; 0 at the end, which no valid document holds.
func (c *cursor) peek() byte {
	for c.i < len(c.b) {
		switch b := c.b[c.i]; b {
		case ' ', '\t', '\n', '\r':
			c.i++
		default:
			return b
		}
	}
	return 0
}

// take skips a byte that must follow.
func (c *cursor) take(want byte) {
	if c.peek() != want {
		c.fail()
		return
	}
	c.i++
}

// end tells whether the document was valid and nothing follows it.
func (c *cursor) end() bool {
	c.peek()
	return !c.bad && c.i == len(c.b) && (!c.wide || utf8.Valid(c.b))
}

// open enters an object and returns its first key; nil if it is empty.
func (c *cursor) open() []byte {
	c.take('{')
	if c.peek() == '}' {
		c.i++
		return nil
	}
	return c.key()
}

// next returns the key after a value; nil at the object's end, which it leaves.
func (c *cursor) next() []byte {
	switch c.peek() {
	case ',':
		c.i++
		return c.key()
	case '}':
		c.i++
	default:
		c.fail()
	}
	return nil
}

// key is never nil, unless there is no valid key.
func (c *cursor) key() []byte {
	span, escaped := c.span()
	if escaped {
		span = c.unescape(span)
	}
	c.take(':')
	if c.bad {
		return nil
	}
	return span
}

// span reads a string and returns what stands between its quotes, as it is.
func (c *cursor) span() (text []byte, escaped bool) {
	c.take('"')
	rest := c.b[c.i:]
	n := shortPlain(rest)
	if n < 0 {
		if n, escaped = stringEnd(rest); n < 0 || !c.plain(rest[:n]) {
			c.fail()
			return nil, false
		}
	}
	c.i += n + 1
	return rest[:n:n], escaped
}

// shortPlain finds the end of a string that is short and plain, as all are but the audio; negative if this one may be neither.
func shortPlain(b []byte) int {
	for i, x := range b[:min(len(b), 40)] {
		switch {
		case x == '"':
			return i
		case x == '\\' || x < ' ' || x >= utf8.RuneSelf:
			return -1
		}
	}
	return -1
}

// stringEnd finds the quote that ends a string; negative if none does.
func stringEnd(b []byte) (n int, escaped bool) {
	n = bytes.IndexByte(b, '"')
	if n >= 0 && bytes.IndexByte(b[:n], '\\') >= 0 {
		return escapedEnd(b), true
	}
	return n, false
}

// escapedEnd finds the quote that ends a string with escapes, which must be valid; else it is negative.
func escapedEnd(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i
		case '\\':
			n := escapeLen(b[i:])
			if n == 0 {
				return -1
			}
			i += n - 1
		}
	}
	return -1
}

// escapeLen returns the length of the escape that b begins with; 0 if b does not begin with an escape.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if hex4(b[2:]) >= 0 {
			return 6
		}
	}
	return 0
}

// hex4 is the value of four hexadecimal digits; negative if there are none.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var r rune
	for _, d := range b[:4] {
		switch {
		case '0' <= d && d <= '9':
			r = r<<4 | rune(d-'0')
		case 'a' <= d|0x20 && d|0x20 <= 'f':
			r = r<<4 | rune(d|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}

// plain tells whether text holds no control character, and notes whether there is more than ASCII. It takes 32 bytes at a time
// and looks once at the end, since audio is nearly all of a frame: each byte that is neither a control character nor beyond ASCII
// has bit 5 or 6, and not bit 7.
func (c *cursor) plain(text []byte) bool {
	var high uint64
	printable := uint64(0x4040404040404040)
	rest := text
	for ; len(rest) >= 32; rest = rest[32:] {
		w := binary.LittleEndian.Uint64(rest)
		x := binary.LittleEndian.Uint64(rest[8:])
		y := binary.LittleEndian.Uint64(rest[16:])
		z := binary.LittleEndian.Uint64(rest[24:])
		high |= w | x | y | z
		printable &= (w | w<<1) & (x | x<<1) & (y | y<<1) & (z | z<<1)
	}
	if high&0x8080808080808080 != 0 || printable != 0x4040404040404040 {
		rest = text
	}
	for _, b := range rest {
		if b < ' ' {
			return false
		}
		c.wide = c.wide || b >= utf8.RuneSelf
	}
	return true
}

// unescape resolves the escapes of a valid string. Half of a surrogate pair becomes U+FFFD.
func (c *cursor) unescape(text []byte) []byte {
	start := len(c.scratch)
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			c.scratch = append(c.scratch, text[i])
		case text[i+1] == 'u':
			r := hex4(text[i+2:])
			i += 5
			if second := pairOf(r, text[i+1:]); second >= 0 {
				r = utf16.DecodeRune(r, second)
				i += 6
			}
			c.scratch = utf8.AppendRune(c.scratch, r)
		default:
			i++
			c.scratch = append(c.scratch, simpleEscape(text[i]))
		}
	}
	return c.scratch[start:len(c.scratch):len(c.scratch)]
}

// pairOf is the second half of a surrogate pair whose first half is r; negative if it is not there.
func pairOf(r rune, rest []byte) rune {
	if !utf16.IsSurrogate(r) || len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
		return -1
	}
	second := hex4(rest[2:])
	if utf16.DecodeRune(r, second) == utf8.RuneError {
		return -1
	}
	return second
}

func simpleEscape(b byte) byte {
	switch b {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return b
}

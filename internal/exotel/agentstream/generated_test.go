package agentstream

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// writer makes messages that say the same in as many spellings as JSON and Exotel's documents have.
type writer struct{ *rand.Rand }

// either is one of its arguments.
func (w writer) either(options ...string) string { return options[w.IntN(len(options))] }

func (w writer) space() string { return w.either("", "", "", " ", "\n", "\t", "\r\n  ") }

// quoted is a JSON string, in which some characters are escaped that need not be.
func (w writer) quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '/' && w.IntN(2) == 0:
			b.WriteString(`\/`)
		case r < ' ' || w.IntN(20) == 0:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, w.either(`\u%04x`, `\u%04X`), unit)
			}
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// number may be quoted.
func (w writer) number() string {
	n := w.either("0", "17", "-3", "1.5", "2e9", "-0.25E-3", "123456789012345678901234567890")
	return w.either(n, `"`+n+`"`)
}

// value is anything, nested at most so deep.
func (w writer) value(depth int) string {
	if depth == 0 {
		return w.either("null", "true", "false", w.number(), w.quoted(w.text()), "[]", "{}")
	}
	var parts []string
	for range w.IntN(4) {
		parts = append(parts, w.value(depth-1))
	}
	if w.IntN(2) == 0 {
		return "[" + w.space() + strings.Join(parts, w.space()+","+w.space()) + w.space() + "]"
	}
	for i, p := range parts {
		parts[i] = w.quoted(w.either("event", "payload", "stream_sid", w.text())) + w.space() + ":" + w.space() + p
	}
	return "{" + w.space() + strings.Join(parts, w.space()+","+w.space()) + w.space() + "}"
}

func (w writer) text() string {
	const alphabet = "abcXYZ019+/= \"\\\n\x01äß€नमस्ते🙂"
	runes := []rune(alphabet)
	var b strings.Builder
	for range w.IntN(60) {
		b.WriteRune(runes[w.IntN(len(runes))])
	}
	return b.String()
}

// object is one of keys and values, in any order, with more between them.
func (w writer) object(pairs map[string]string) string {
	var parts []string
	for k, v := range pairs { // in any order
		parts = append(parts, w.quoted(k)+w.space()+":"+w.space()+v)
		if w.IntN(4) == 0 {
			parts = append(parts, w.quoted("x"+w.text())+":"+w.value(w.IntN(4)))
		}
	}
	return w.space() + "{" + w.space() + strings.Join(parts, w.space()+","+w.space()) + w.space() + "}" + w.space()
}

// TestScanGenerated verifies that the Scanner reads the same message from any spelling, and rejects a message that is
// cut.
func TestScanGenerated(t *testing.T) {
	seed := rand.Uint64()
	w := writer{rand.New(rand.NewPCG(seed, 0))}
	var s Scanner
	for range 5000 {
		kind := Kind(w.IntN(int(Stop) + 1))
		sid := w.text()
		payload := w.text()
		pairs := map[string]string{"event": w.quoted(kind.String()), "sequence_number": w.number()}
		pairs["media"] = w.object(map[string]string{
			"chunk":     w.number(),
			"timestamp": w.number(),
			"payload":   w.quoted(payload),
		})
		if w.IntN(2) == 0 {
			pairs["start"] = w.object(map[string]string{w.either("stream_sid", "streamSid"): w.quoted(sid)})
		} else {
			pairs[w.either("stream_sid", "streamSid")] = w.quoted(sid)
		}
		doc := w.object(pairs)
		if !json.Valid([]byte(doc)) {
			t.Fatalf("seed %d: the test wrote %q", seed, doc)
		}
		message, err := s.Scan([]byte(doc))
		if kind != Media {
			payload = ""
		}
		if err != nil || message.Kind != kind || string(message.StreamSID) != sid ||
			string(message.Payload) != payload {
			t.Fatalf(
				"seed %d: got %v %q %q, %v; want %v %q %q of\n%s",
				seed,
				message.Kind,
				message.StreamSID,
				message.Payload,
				err,
				kind,
				sid,
				payload,
				doc,
			)
		}
		whole := strings.TrimRight(doc, " \n\t\r")
		if cut := whole[:w.IntN(len(whole))]; !json.Valid([]byte(cut)) {
			if _, err := s.Scan([]byte(cut)); err == nil {
				t.Fatalf("seed %d: %q is taken for a message", seed, cut)
			}
		}
	}
}

// TestScanDamaged verifies that the Scanner and encoding/json agree on messages with changed bytes.
func TestScanDamaged(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	docs := []string{
		`{"event":"media","sequence_number":3,"stream_sid":"s1","media":{"chunk":2,"timestamp":"10","payload":"` + strings.Repeat(
			"QUJD",
			40,
		) + `"}}`,
		`{"event":"start","start":{"streamSid":"s1","media_format":{"sample_rate":"8000"},` +
			`"custom_parameters":{"k":[1,-2.5e3,null,true,{}]}}}`,
	}
	const damage = "\"\\{}[]:,0e-.nul \x00\x1f\x7f\x80\xc3\xff"
	var s Scanner
	for range 20_000 {
		doc := []byte(docs[r.IntN(len(docs))])
		for range 1 + r.IntN(2) {
			doc[r.IntN(len(doc))] = damage[r.IntN(len(damage))]
		}
		message, err := s.Scan(doc)
		want, valid := refer(doc)
		if valid != (err == nil) {
			t.Fatalf("seed %d: valid is %v, and Scan says %v: %q", seed, valid, err, doc)
		}
		if got := (reference{message.Kind, string(message.StreamSID), string(message.Payload)}); valid && got != want {
			t.Fatalf("seed %d: got %+v, want %+v: %q", seed, got, want, doc)
		}
	}
}

// TestUnescape verifies that unescape equals encoding/json, also for half surrogate pairs.
func TestUnescape(t *testing.T) {
	for name, quoted := range map[string]string{
		"all simple ones":           `"\"\\\/\b\f\n\r\t"`,
		"a letter":                  `"\u0041\u00e4\u20ac"`,
		"either case":               `"\u00AB\u00ab"`,
		"a pair":                    `"\ud83d\ude42"`,
		"only the first half":       `"\ud83d"`,
		"only the second half":      `"\ude42"`,
		"halves the wrong way":      `"\ude42\ud83d"`,
		"a first half, then text":   `"\ud83dx"`,
		"a first half, then escape": `"\ud83d\n"`,
		"two first halves":          `"\ud83d\ud83d\ude42"`,
		"a first half, then letter": `"\ud83d\u0041"`,
		"NUL":                       `"\u0000"`,
		"text around it":            `"a\u0041b\\c"`,
	} {
		t.Run(name, func(t *testing.T) {
			var want string
			if err := json.Unmarshal([]byte(quoted), &want); err != nil {
				t.Fatal(err)
			}
			c := cursor{b: []byte(quoted)}
			span, escaped := c.span()
			if !escaped || !c.end() {
				t.Fatalf("read %q, escaped %v, bad %v", span, escaped, c.bad)
			}
			if got := string(c.unescape(span)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestPlain verifies that plain finds a control character at any place, and notes bytes outside ASCII.
func TestPlain(t *testing.T) {
	for n := range 100 {
		for at := range n {
			for _, b := range []byte{0, 1, '\n', 0x1f, ' ', '@', '`', 0x7f, 0x80, 0x81, 0xa0, 0xe0, 0xff} {
				text := []byte(strings.Repeat("A", n))
				text[at] = b
				var c cursor
				if got := c.plain(text); got != (b >= ' ') {
					t.Fatalf("%#x at %d of %d: plain is %v", b, at, n, got)
				}
				if b >= ' ' && c.wide != (b >= utf8.RuneSelf) {
					t.Fatalf("%#x at %d of %d: wide is %v", b, at, n, c.wide)
				}
			}
		}
	}
}

// TestAppend verifies the minimal forms of the messages byte for byte. Some of Exotel's deployments close the stream
// over any other form.
func TestAppend(t *testing.T) {
	dst := []byte("before ")
	for want, got := range map[string][]byte{
		`before {"event":"media","stream_sid":"s1","media":{"payload":"AAAA"}}`: AppendMedia(dst, []byte("s1"),
			[]byte("AAAA")),
		`before {"event":"mark","stream_sid":"s1","mark":{"name":"label"}}`: AppendMark(dst, []byte("s1"),
			[]byte("label")),
		`before {"event":"mark","stream_sid":"s\"1","mark":{"name":"a\\b\u000a\u001f"}}`: AppendMark(dst, []byte(`s"1`),
			[]byte("a\\b\n\x1f")),
		`before {"event":"clear","stream_sid":"s1"}`: AppendClear(dst, []byte("s1")),
	} {
		if string(got) != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	room := make([]byte, 0, 4096)
	sid := []byte("s1")
	audio := []byte(strings.Repeat("A", 2000))
	if n := testing.AllocsPerRun(100, func() { _ = AppendMedia(room, sid, audio) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

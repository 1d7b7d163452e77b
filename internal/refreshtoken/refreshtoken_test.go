package refreshtoken

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	tenant = "acme/support"
	id     = "00112233-4455-6677-8899-aabbccddeeff"
)

var key = bytes.Repeat([]byte{7}, KeySize)

func TestNewIsReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		generation := rapid.Int64Min(1).Draw(t, "generation")
		raw := New(tenant, id, generation, key)
		tok, err := Parse(raw)
		if err != nil || tok.SessionID != id || tok.Generation != generation || !tok.Genuine(tenant, key) {
			t.Fatalf("%+v, %v", tok.SessionID, err)
		}
	})
}

func TestGenuine(t *testing.T) {
	tok, err := Parse(New(tenant, id, 5, key))
	if err != nil {
		t.Fatal(err)
	}
	other := tok
	other.Generation++
	session := tok
	session.SessionID = "00112233-4455-6677-8899-aabbccddeefe"
	forged := tok
	forged.tag[0] ^= 1
	for name, tc := range map[string]struct {
		tok    Token
		tenant string
		key    []byte
		want   bool
	}{
		"genuine":        {tok, tenant, key, true},
		"other tenant":   {tok, "globex/sales", key, false},
		"other key":      {tok, tenant, bytes.Repeat([]byte{8}, KeySize), false},
		"next in line":   {other, tenant, key, false},
		"other session":  {session, tenant, key, false},
		"tag of one bit": {forged, tenant, key, false},
	} {
		if got := tc.tok.Genuine(tc.tenant, tc.key); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	raw := New(tenant, id, 5, key)
	spelled := func(b []byte) string { return prefix + base64.RawURLEncoding.EncodeToString(b) }
	loose := raw[:len(raw)-1] + string(next(raw[len(raw)-1]))
	for name, raw := range map[string]string{
		"empty":                     "",
		"another version":           strings.Replace(raw, "crt1.", "crt2.", 1),
		"no prefix":                 raw[len(prefix):],
		"prefix alone":              prefix,
		"cut off":                   raw[:len(raw)-1],
		"one more":                  raw + "A",
		"padded":                    raw + "==",
		"space before":              " " + raw,
		"line break in it":          raw[:20] + "\n" + raw[21:],
		"two line breaks added":     raw[:20] + "\r\n" + raw[20:],
		"standard alphabet":         raw[:20] + "+/" + raw[22:],
		"generation 0":              spelled(make([]byte, size)),
		"generation beyond":         spelled(bytes.Repeat([]byte{0xff}, size)),
		"endless":                   raw + strings.Repeat("A", 1<<20),
		"last character's spelling": loose,
	} {
		if _, err := Parse(raw); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

// next is a character whose low bits, which the last one of a token does not use, differ.
func next(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

func TestTokensAreNotPrinted(t *testing.T) {
	tok, err := Parse(New(tenant, id, 5, key))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", tok)
	for _, text := range []string{log.String(), fmt.Sprint(tok), fmt.Sprintf("%v %s", tok, tok)} {
		if strings.Contains(text, fmt.Sprintf("%v", tok.tag)) || strings.Contains(text, id) {
			t.Errorf("it is told in %q", text)
		}
	}
}

// FuzzParse verifies that each parsed token has one spelling, and is not genuine without the key.
func FuzzParse(f *testing.F) {
	f.Add(New(tenant, id, 1, key))
	f.Add(New(tenant, id, 1<<62, key))
	f.Add(prefix)
	f.Add(prefix + strings.Repeat("A", base64.RawURLEncoding.EncodedLen(size)))
	secret := bytes.Repeat([]byte{0x5a}, KeySize)
	f.Fuzz(func(t *testing.T, raw string) {
		tok, err := Parse(raw)
		if err != nil {
			return
		}
		if tok.Generation < 1 || tok.Genuine(tenant, secret) {
			t.Fatalf("%q is taken for genuine", raw)
		}
		named := append([]byte(prefix), base64.RawURLEncoding.EncodeToString(append(tok.named(), tok.tag[:]...))...)
		if string(named) != raw {
			t.Fatalf("%q also reads as %q", raw, named)
		}
	})
}

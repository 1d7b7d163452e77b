// Package refreshtoken is the form of refresh tokens. A token names a session and a generation of it, and proves both with a tag
// under the session's own key, so that the database can make the current token again and holds none.
package refreshtoken

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
)

// KeySize is the length of a session's key in bytes.
const KeySize = 32

const (
	prefix  = "crt1."
	idSize  = 16
	tagSize = 16
	size    = idSize + 8 + tagSize
)

// ErrMalformed means that the text is not a refresh token.
var ErrMalformed = errors.New("not a refresh token")

// Token is a refresh token that was read, and not yet verified.
type Token struct {
	// SessionID is a UUID in its text form.
	SessionID string
	// Generation counts from 1.
	Generation int64
	tag        [tagSize]byte
}

// New makes the token of a session's generation. It panics on an id that is not a UUID: ids come from the database.
func New(tenant, sessionID string, generation int64, key []byte) string {
	t := Token{SessionID: sessionID, Generation: generation}
	t.tag = tag(tenant, t.named(), key)
	return prefix + encoding.EncodeToString(append(t.named(), t.tag[:]...))
}

// named is the session and its generation.
func (t Token) named() []byte {
	id, err := hex.DecodeString(strings.ReplaceAll(t.SessionID, "-", ""))
	if err != nil || len(id) != idSize {
		panic("refreshtoken: the session's id is not a UUID")
	}
	return binary.BigEndian.AppendUint64(id, uint64(t.Generation)) //nolint:gosec // never negative
}

// encoding refuses the other spellings of the last character: a token has one.
var encoding = base64.RawURLEncoding.Strict()

// Parse reads a token. It says nothing of whether it is genuine.
func Parse(raw string) (t Token, err error) {
	text, ok := strings.CutPrefix(raw, prefix)
	if !ok || len(text) != encoding.EncodedLen(size) || strings.ContainsAny(text, "\r\n") { // which the decoder skips
		return t, ErrMalformed
	}
	b, err := encoding.DecodeString(text)
	if err != nil {
		return t, ErrMalformed
	}
	generation := binary.BigEndian.Uint64(b[idSize:])
	if generation == 0 || generation > math.MaxInt64 {
		return t, ErrMalformed
	}
	t.SessionID = fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:idSize])
	t.Generation = int64(generation)
	copy(t.tag[:], b[idSize+8:])
	return t, nil
}

// Genuine tells whether the token was made for the tenant under the session's key.
func (t Token) Genuine(tenant string, key []byte) bool {
	want := tag(tenant, t.named(), key)
	return hmac.Equal(want[:], t.tag[:])
}

// LogValue keeps the tag out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue("[refresh token]") }

// String keeps the tag out of texts.
func (t Token) String() string { return "[refresh token]" }

// Hash returns what a list of invalid tokens stores of one.
func Hash(raw string) []byte {
	sum := sha256.Sum256([]byte(raw))
	return sum[:]
}

// tag is over the tenant too: a row that was copied to another tenant makes no token there.
func tag(tenant string, named, key []byte) (t [tagSize]byte) {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(prefix + tenant + "\x00"))
	mac.Write(named)
	copy(t[:], mac.Sum(nil))
	return t
}

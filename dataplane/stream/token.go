package stream

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// Parts of a one-time token, in bytes: mac, nonce, expiry, and the call's id behind them.
const (
	macSize    = sha256.Size
	nonceSize  = 16
	headSize   = macSize + nonceSize + 8
	maxCallSID = 128
)

// tokenLifetime is how long Exotel may take from the answer to the handshake.
const tokenLifetime = time.Minute

// tokenPrefix tells a one-time token from one of the tenant's own.
const tokenPrefix = "ot1."

// oneTime is a token for one stream of one call of one tenant. That it is used once is the database's to see to: the session's row
// keeps its id, unique for the tenant.
type oneTime struct {
	id      string // its nonce; no secret
	callSID string
}

// mint makes a token. The tenant is not in it, but is in its mac.
func mint(key []byte, tenantID, callSID string, now time.Time) string {
	b := make([]byte, headSize, headSize+len(callSID))
	_, _ = rand.Read(b[macSize : macSize+nonceSize]) // never fails
	binary.BigEndian.PutUint64(b[macSize+nonceSize:], uint64(now.Add(tokenLifetime).UnixMilli()))
	b = append(b, callSID...)
	copy(b, tokenMAC(key, tenantID, b[macSize:]))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

func tokenMAC(key []byte, tenantID string, rest []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(tenantID)))) //nolint:gosec // no name is that long
	mac.Write([]byte(tenantID))
	mac.Write(rest)
	return mac.Sum(nil)
}

// looksOneTime tells whether a token says that it is one.
func looksOneTime(token string) bool { return strings.HasPrefix(token, tokenPrefix) }

// open reads a token of the tenant, and returns why not.
func openToken(key []byte, tenantID, token string, now time.Time) (t oneTime, fault string) {
	encoded, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || base64.RawURLEncoding.DecodedLen(len(encoded)) > headSize+maxCallSID {
		return t, reasonWrongToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) <= headSize || len(key) == 0 ||
		!hmac.Equal(b[:macSize], tokenMAC(key, tenantID, b[macSize:])) {
		return t, reasonWrongToken
	}
	expires := time.UnixMilli(
		int64(binary.BigEndian.Uint64(b[macSize+nonceSize : headSize])), //nolint:gosec // ours, by its mac
	)
	if !now.Before(expires) {
		return t, reasonExpiredToken
	}
	return oneTime{id: hex.EncodeToString(b[macSize : macSize+nonceSize]), callSID: string(b[headSize:])}, ""
}

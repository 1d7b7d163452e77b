// Package auth verifies that a webhook comes from whom it says.
package auth

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the scheme is HMAC-SHA1, which stands
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/caly-dev/caly/internal/tenantconfig"
)

// SignatureHeader carries the signature.
const SignatureHeader = "X-Exotel-Signature"

// VerifyHMACSHA1 tells whether the signature, in hex or base64 and with or without "sha1=" in front, is the HMAC-SHA1 of
// the signed bytes under any of the secrets. All secrets are tried and each is compared in constant time, so that the time
// taken tells neither which one matched nor how much of it.
func VerifyHMACSHA1(secrets []tenantconfig.Sensitive, signed []byte, signature string) bool {
	got, ok := decode(strings.TrimPrefix(signature, "sha1="))
	match := false
	for _, s := range secrets {
		mac := hmac.New(sha1.New, []byte(s.Reveal()))
		_, _ = mac.Write(signed) // never fails
		equal := hmac.Equal(mac.Sum(nil), got)
		match = match || equal
	}
	return ok && match
}

func decode(s string) ([]byte, bool) {
	if len(s) == hex.EncodedLen(sha1.Size) {
		b, err := hex.DecodeString(s)
		return b, err == nil
	}
	if len(s) == base64.StdEncoding.EncodedLen(sha1.Size) {
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		return b, err == nil
	}
	return nil, false
}

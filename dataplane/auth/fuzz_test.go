package auth

import (
	"crypto/sha1" //nolint:gosec // as in the package
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/tenantconfig"
)

// hmacSHA1 is RFC 2104 written out, to judge the package by.
func hmacSHA1(key, data []byte) []byte {
	var block [64]byte
	if len(key) > len(block) {
		sum := sha1.Sum(key)
		key = sum[:]
	}
	copy(block[:], key)
	inner, outer := make([]byte, 0, 64+len(data)), make([]byte, 0, 64+sha1.Size)
	for _, b := range block {
		inner, outer = append(inner, b^0x36), append(outer, b^0x5c)
	}
	sum := sha1.Sum(append(inner, data...))
	sum = sha1.Sum(append(outer, sum[:]...))
	return sum[:]
}

// FuzzVerify : of all signatures only the true one gets through, in its four spellings.
func FuzzVerify(f *testing.F) {
	const key, body = "a signing secret of acme", "CallSid=c1&Status=completed"
	sum := hmacSHA1([]byte(key), []byte(body))
	for _, s := range []string{hex.EncodeToString(sum), base64.StdEncoding.EncodeToString(sum), "sha1=" + hex.EncodeToString(sum),
		"sha1=sha1=" + hex.EncodeToString(sum), hex.EncodeToString(sum)[:39] + "\n", base64.StdEncoding.EncodeToString(sum)[:27] + "\n", ""} {
		f.Add([]byte(key), []byte(body), s)
	}
	f.Fuzz(func(t *testing.T, key, body []byte, signature string) {
		sum := hmacSHA1(key, body)
		bare := strings.TrimPrefix(signature, "sha1=")
		want := strings.EqualFold(bare, hex.EncodeToString(sum)) || bare == base64.StdEncoding.EncodeToString(sum)
		secrets := []tenantconfig.Sensitive{tenantconfig.Sensitive(key)}
		if got := VerifyHMACSHA1(secrets, body, signature); got != want {
			t.Errorf("signature %q: %v, want %v", signature, got, want)
		}
		truth := hex.EncodeToString(sum)
		if !VerifyHMACSHA1(secrets, body, truth) {
			t.Error("the true signature is refused")
		}
		if VerifyHMACSHA1(secrets, append(slices.Clone(body), 0), truth) {
			t.Error("the signature of another body got through")
		}
	})
}

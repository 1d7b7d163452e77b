package exotelsim

import (
	"crypto/sha1"
	"encoding/hex"
	"testing"
)

// hmacSHA1 follows RFC 2104 step by step, so that the Sender's signatures are not compared with the code that made them.
func hmacSHA1(key, message string) string {
	var inner, outer [sha1.BlockSize]byte
	k := []byte(key)
	if len(k) > sha1.BlockSize {
		sum := sha1.Sum(k)
		k = sum[:]
	}
	copy(inner[:], k)
	copy(outer[:], k)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := sha1.Sum(append(inner[:], message...))
	sum = sha1.Sum(append(outer[:], sum[:]...))
	return hex.EncodeToString(sum[:])
}

// TestHMAC holds the helper to the vectors of RFC 2202.
func TestHMAC(t *testing.T) {
	for name, tc := range map[string]struct{ key, message, want string }{
		"case 2": {"Jefe", "what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		"case 6": {
			string(fill(80, 0xaa)),
			"Test Using Larger Than Block-Size Key - Hash Key First",
			"aa4ae5e15272d00e95705637ce8a3b55ed402112",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hmacSHA1(tc.key, tc.message); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func fill(n int, b byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = b
	}
	return p
}

package auth

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // as in the package
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/tenantconfig"
)

// The vectors of RFC 2202, section 3.
func TestRFC2202(t *testing.T) {
	for name, tc := range map[string]struct{ key, data, want string }{
		"1": {strings.Repeat("\x0b", 20), "Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"},
		"2": {"Jefe", "what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		"3": {strings.Repeat("\xaa", 20), strings.Repeat("\xdd", 50), "125d7342b9ac11cd91a39af48aa17b4f63f175d3"},
		"4": {"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19", strings.Repeat("\xcd", 50),
			"4c9007f4026250c6bc8414f9bf50c86c2d7235da"},
		"5": {strings.Repeat("\x0c", 20), "Test With Truncation", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"},
		"6": {strings.Repeat("\xaa", 80), "Test Using Larger Than Block-Size Key - Hash Key First", "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
		"7": {strings.Repeat("\xaa", 80), "Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data", "e8e99d0f45237d786d6bbaa7965c7808bbff1a91"},
	} {
		t.Run(name, func(t *testing.T) {
			if !VerifyHMACSHA1([]tenantconfig.Sensitive{tenantconfig.Sensitive(tc.key)}, []byte(tc.data), tc.want) {
				t.Error("the vector was refused")
			}
		})
	}
}

func TestVerify(t *testing.T) {
	secrets := []tenantconfig.Sensitive{"the first secret", "the second secret"}
	body := []byte("CallSid=c1&Status=completed")
	mac := func(key string) []byte {
		m := hmac.New(sha1.New, []byte(key))
		m.Write(body)
		return m.Sum(nil)
	}
	first := hex.EncodeToString(mac("the first secret"))
	for name, tc := range map[string]struct {
		secrets []tenantconfig.Sensitive
		sig     string
		want    bool
	}{
		"first secret":       {secrets, first, true},
		"second secret":      {secrets, hex.EncodeToString(mac("the second secret")), true},
		"upper case":         {secrets, strings.ToUpper(first), true},
		"prefix":             {secrets, "sha1=" + first, true},
		"base64":             {secrets, base64.StdEncoding.EncodeToString(mac("the first secret")), true},
		"another secret":     {secrets, hex.EncodeToString(mac("a third secret")), false},
		"vector 5's 96 bits": {secrets, first[:24], false},
		"cut":                {secrets, first[:38], false},
		"empty":              {secrets, "", false},
		"no secret at all":   {nil, first, false},
		"not hex":            {secrets, strings.Repeat("z", 40), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := VerifyHMACSHA1(tc.secrets, body, tc.sig); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	for bit := range 160 {
		sum := mac("the first secret")
		sum[bit/8] ^= 1 << (bit % 8)
		if VerifyHMACSHA1(secrets, body, hex.EncodeToString(sum)) {
			t.Fatalf("a signature with bit %d flipped got through", bit)
		}
	}
}

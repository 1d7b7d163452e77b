package verify

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // HMAC with SHA-1 stands
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// scheme is an HMAC's hash, the size of its sum, and the prefix that senders write in front.
type scheme struct {
	hash   func() hash.Hash
	size   int
	prefix string
}

var schemes = map[string]scheme{
	tenantconfig.SchemeHMACSHA1:   {sha1.New, sha1.Size, "sha1="},
	tenantconfig.SchemeHMACSHA256: {sha256.New, sha256.Size, "sha256="},
}

// verifySignature looks for an HMAC in a header. The HMAC is made whatever is in that header, so that the time taken tells nothing.
func verifySignature(cfg *tenantconfig.Signature, r *Request) finding {
	scheme, known := schemes[cfg.Scheme]
	if !known {
		return refuse(ReasonWrongSignature) // the codec lets none through; a config from elsewhere is refused
	}
	value, missing := only(r.Header, or(cfg.Header, tenantconfig.DefaultSignatureHeader))
	got := scheme.decode(cfg, value)
	signed := signedContent(cfg, r)
	match := scheme.matches(cfg.Secrets, [][]byte{got}, signed.parts...)
	switch {
	case missing:
		return lacks(ReasonMissingSignature)
	case signed.refusal != "" && signed.refusal != ReasonStaleTimestamp:
		return refuse(signed.refusal)
	case !match:
		return refuse(ReasonWrongSignature)
	case signed.refusal != "": // only who can sign is told of the time
		return refuse(signed.refusal)
	}
	return signed.accepted()
}

// matches tells whether any of the sums is the HMAC of the parts under any of the secrets. All are tried and each is compared in
// constant time, so that the time taken tells neither which one matched nor how much of it.
func (s scheme) matches(secrets []secret.Sensitive, sums [][]byte, parts ...[]byte) bool {
	match := false
	var want [sha256.Size]byte
	for _, secret := range secrets {
		mac := hmac.New(s.hash, []byte(secret.Reveal()))
		for _, p := range parts {
			_, _ = mac.Write(p) // never fails
		}
		made := mac.Sum(want[:0])
		for _, sum := range sums {
			match = hmac.Equal(made, sum) || match
		}
	}
	return match
}

// decode returns the sum that a header carries; nil, which equals no sum, if it carries none.
func (s scheme) decode(cfg *tenantconfig.Signature, value string) []byte {
	value, ok := s.trim(cfg.Prefix, value)
	if !ok {
		return nil
	}
	encoding := or(cfg.Encoding, tenantconfig.EncodingAny)
	var sum []byte
	var err error
	switch {
	case encoding != tenantconfig.EncodingBase64 && len(value) == hex.EncodedLen(s.size):
		sum, err = hex.DecodeString(value)
	case encoding != tenantconfig.EncodingHex && len(value) == base64.StdEncoding.EncodedLen(s.size):
		// Strict: of the spellings that differ in bits behind the sum's end only one is right.
		sum, err = base64.StdEncoding.Strict().DecodeString(value)
	}
	if err != nil || len(sum) != s.size {
		return nil
	}
	return sum
}

// trim takes the tenant's prefix off, or the scheme's own. Where the tenant names one, one of them must be there.
func (s scheme) trim(prefix, value string) (string, bool) {
	if rest, found := strings.CutPrefix(value, prefix); found && prefix != "" {
		return rest, true
	}
	rest, found := strings.CutPrefix(value, s.prefix)
	return rest, found || prefix == ""
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// checkTimestamp returns why a time of signing, in seconds since 1970, is refused; empty if it is not. Either edge of
// the tolerance is still valid.
func checkTimestamp(stamp string, tolerance time.Duration, now time.Time) string {
	// Digits alone: ParseInt would take a sign too, and twelve of them are a time that no duration overflows on.
	if stamp == "" || len(stamp) > 12 || strings.Trim(stamp, "0123456789") != "" {
		return ReasonBadTimestamp
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return ReasonBadTimestamp
	}
	// In whole seconds, as the timestamp is: a half must not put a good one beyond the edge.
	if age := now.Unix() - seconds; tolerance <= 0 || max(age, -age) > int64(tolerance/time.Second) {
		return ReasonStaleTimestamp
	}
	return ""
}

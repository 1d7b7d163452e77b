package objectstore_test

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caly-dev/caly/internal/objectstore"
)

// FuzzAssumed reads answers of an STS. What it accepts can be used, and what it says of the others quotes no
// credential.
func FuzzAssumed(f *testing.F) {
	const head = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">` +
		`<AssumeRoleWithWebIdentityResult><Credentials>`
	const tail = `</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
	f.Add(head + `<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>` +
		`<Expiration>2026-01-02T04:04:05Z</Expiration>` + tail)
	f.Add(head + `<Expiration>2126-01-02T03:04:05Z</Expiration>` + tail)
	f.Add(`<ErrorResponse/>`)
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, answer string) {
		key, err := objectstore.ReadAssumed([]byte(answer), began)
		if err != nil {
			if key != (objectstore.TemporaryKey{}) {
				t.Error("credentials with an error")
			}
			if text := err.Error(); len(text) > 400 || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("the error is %q", text)
			}
			return
		}
		if key.Lifetime < objectstore.MinLifetime || key.Lifetime > objectstore.MaxLifetime {
			t.Errorf("a lifetime of %s", key.Lifetime)
		}
		for _, value := range []string{key.AccessKeyID, key.SecretAccessKey, key.SessionToken} {
			if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("a credential is %q", value)
			}
		}
	})
}

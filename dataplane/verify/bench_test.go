package verify_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// BenchmarkVerify is what a webhook of usual size costs each verifier, and what all of them cost together.
func BenchmarkVerify(b *testing.B) {
	body := strings.Repeat(
		"CallSid=80bfbec2d78bbbf10fb851f4fa165211&Status=completed&", 12,
	) // some 700 bytes, as a terminal event has
	signed := func(scheme string, secrets ...string) (*tenantconfig.Webhooks, *verify.Request) {
		return signatureOf(
			scheme,
			secrets...), post(body, "X-Exotel-Signature", hex.EncodeToString(mac(scheme, firstSecret, body)))
	}
	urlAndForm := func() (*tenantconfig.Webhooks, *verify.Request) {
		signedRequest := urlSigned()
		return signedRequest.cfg, signedRequest.r()
	}
	token := func() (*tenantconfig.Webhooks, *verify.Request) {
		request := post(body, "Content-Type", form)
		request.URL.RawQuery = "token=" + secondToken
		return &tenantconfig.Webhooks{Token: &tenantconfig.Token{Secrets: sensitive(secondToken)}}, request
	}
	basic := func() (*tenantconfig.Webhooks, *verify.Request) {
		return &tenantconfig.Webhooks{Basic: &tenantconfig.BasicAuth{Users: []tenantconfig.User{{
				Name:     "exotel",
				Password: password,
			}}}},
			post(body, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("exotel:"+password)))
	}
	all := func() (*tenantconfig.Webhooks, *verify.Request) {
		cfg := &tenantconfig.Webhooks{RequireAll: true}
		request := post(statusBody, "Content-Type", form)
		for _, p := range proofs() {
			p.configure(cfg)
			p.good(request)
		}
		return cfg, request
	}
	for name, prepare := range map[string]func() (*tenantconfig.Webhooks, *verify.Request){
		"HMACSHA1":             func() (*tenantconfig.Webhooks, *verify.Request) { return signed(sha1Scheme, firstSecret) },
		"HMACSHA1/two secrets": func() (*tenantconfig.Webhooks, *verify.Request) { return signed(sha1Scheme, secondSecret, firstSecret) },
		"HMACSHA256":           func() (*tenantconfig.Webhooks, *verify.Request) { return signed(sha256Scheme, firstSecret) },
		"URLAndParameters":     urlAndForm,
		"StandardWebhooks":     standardVector,
		"Token":                token,
		"BasicAuth":            basic,
		"all five":             all,
	} {
		b.Run(name, func(b *testing.B) {
			cfg, request := prepare()
			b.ReportAllocs()
			for b.Loop() {
				if !verify.Verify(cfg, request).OK {
					b.Fatal("refused")
				}
			}
		})
	}
}

package verify_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// post is a request with a body and one header.
func post(body, header, value string) *verify.Request {
	request := &verify.Request{
		Method:   http.MethodPost,
		Header:   http.Header{},
		Body:     []byte(body),
		Now:      time.Unix(1_800_000_000, 0),
		URL:      mustURL("https://voice.example/webhooks/exotel/acme/support/status"),
		ClientIP: netip.MustParseAddr("203.0.113.7"),
	}
	request.Header.Set(header, value)
	return request
}

func mustURL(s string) *url.URL {
	address, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return address
}

// sensitive makes secrets of strings.
func sensitive(values ...string) (list []secret.Sensitive) {
	for _, v := range values {
		list = append(list, secret.Sensitive(v))
	}
	return list
}

const (
	sha1Scheme   = tenantconfig.SchemeHMACSHA1
	sha256Scheme = tenantconfig.SchemeHMACSHA256
)

func signatureOf(scheme string, secrets ...string) *tenantconfig.Webhooks {
	return &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{Scheme: scheme, Secrets: sensitive(secrets...)}}
}

// The vectors of RFC 2202, section 3, and RFC 4231, section 4; of their truncated ones the whole sums.
func TestHMACVectors(t *testing.T) {
	counting := "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19"
	for name, tc := range map[string]struct{ scheme, key, data, want string }{
		"RFC 2202, 1": {sha1Scheme, strings.Repeat("\x0b", 20), "Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"},
		"RFC 2202, 2": {sha1Scheme, "Jefe", "what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		"RFC 2202, 3": {
			sha1Scheme,
			strings.Repeat("\xaa", 20),
			strings.Repeat("\xdd", 50),
			"125d7342b9ac11cd91a39af48aa17b4f63f175d3",
		},
		"RFC 2202, 4": {sha1Scheme, counting, strings.Repeat("\xcd", 50), "4c9007f4026250c6bc8414f9bf50c86c2d7235da"},
		"RFC 2202, 5": {
			sha1Scheme,
			strings.Repeat("\x0c", 20),
			"Test With Truncation",
			"4c1a03424b55e07fe7f27be1d58bb9324a9a5a04",
		},
		"RFC 2202, 6": {sha1Scheme, strings.Repeat("\xaa", 80),
			"Test Using Larger Than Block-Size Key - Hash Key First",
			"aa4ae5e15272d00e95705637ce8a3b55ed402112"},
		"RFC 2202, 7": {sha1Scheme, strings.Repeat("\xaa", 80),
			"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data",
			"e8e99d0f45237d786d6bbaa7965c7808bbff1a91"},
		"RFC 4231, 1": {
			sha256Scheme,
			strings.Repeat("\x0b", 20),
			"Hi There",
			"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
		},
		"RFC 4231, 2": {
			sha256Scheme,
			"Jefe",
			"what do ya want for nothing?",
			"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		},
		"RFC 4231, 3": {sha256Scheme, strings.Repeat("\xaa", 20), strings.Repeat("\xdd", 50),
			"773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
		"RFC 4231, 4": {
			sha256Scheme,
			counting,
			strings.Repeat("\xcd", 50),
			"82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
		},
		"RFC 4231, 6": {sha256Scheme, strings.Repeat("\xaa", 131),
			"Test Using Larger Than Block-Size Key - Hash Key First",
			"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		"RFC 4231, 7": {sha256Scheme, strings.Repeat("\xaa", 131),
			"This is a test using a larger than block-size key and a larger than block-size data. " +
				"The key needs to be hashed before being used by the HMAC algorithm.",
			"9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	} {
		t.Run(name, func(t *testing.T) {
			if verdict := verify.Verify(
				signatureOf(tc.scheme, tc.key), post(tc.data, "X-Exotel-Signature", tc.want),
			); !verdict.OK || !verdict.CoversBody ||
				verdict.CoversQuery {
				t.Errorf("the vector was judged %+v", verdict)
			}
			// RFC 4231, 5 and RFC 2202, 5 have sums cut to 128 and 96 bits. The package refuses a cut sum.
			if verdict := verify.Verify(
				signatureOf(tc.scheme, tc.key), post(tc.data, "X-Exotel-Signature", tc.want[:32]),
			); verdict.OK {
				t.Error("the vector, cut, got through")
			}
		})
	}
}

// Twilio's published examples of its request validation, recomputed with openssl.
func TestTwilioVectors(t *testing.T) {
	for name, tc := range map[string]struct{ url, body, want string }{
		"documentation": {"https://example.com/myapp.php?foo=1&bar=2",
			"Digits=1234&To=%2B18005551212&From=%2B14158675310&Caller=%2B14158675310&CallSid=CA1234567890ABCDE",
			"L/OH5YylLD5NRKLltdqwSvS0BnU="},
		"documentation, older": {"https://mycompany.com/myapp.php?foo=1&bar=2",
			"Digits=1234&To=%2B18005551212&From=%2B12349013030&Caller=%2B12349013030&CallSid=CA1234567890ABCDE",
			"0/KCTR6DLpKmkAf8muzZqo1nDgQ="},
		"its libraries' tests": {"https://mycompany.com/myapp.php?foo=1&bar=2",
			"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212",
			"RSOYDt4T1cUTdK1PDd93/VVr8B8="},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := signatureOf(sha1Scheme, "12345")
			cfg.Signature.SignedContent = tenantconfig.SignedURLAndParameters
			cfg.Signature.Header = "X-Twilio-Signature"
			request := post(tc.body, "X-Twilio-Signature", tc.want)
			request.URL = mustURL(tc.url)
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
			if verdict := verify.Verify(cfg, request); !verdict.OK || !verdict.CoversBody || !verdict.CoversQuery {
				t.Errorf("the vector was judged %+v", verdict)
			}
			request.Body = []byte(strings.Replace(tc.body, "1234", "1235", 1))
			if verdict := verify.Verify(cfg, request); verdict.OK || verdict.Reason != verify.ReasonWrongSignature {
				t.Errorf("another parameter was judged %+v", verdict)
			}
		})
	}
}

// standardVector is the example of the Standard Webhooks specification's own libraries.
func standardVector() (*tenantconfig.Webhooks, *verify.Request) {
	key, err := tenantconfig.DecodeStandardSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		panic(err)
	}
	cfg := &tenantconfig.Webhooks{Standard: &tenantconfig.StandardWebhooks{
		Tolerance: 5 * time.Minute,
		Secrets:   []secret.Sensitive{key},
	}}
	request := post(`{"test": 2432232314}`, "webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	request.Header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	request.Header.Set("webhook-timestamp", "1614265330")
	request.Now = time.Unix(1614265330, 0)
	return cfg, request
}

func TestStandardWebhooksVector(t *testing.T) {
	cfg, request := standardVector()
	if verdict := verify.Verify(cfg, request); !verdict.OK || !verdict.CoversBody || verdict.CoversQuery {
		t.Errorf("the vector was judged %+v", verdict)
	}
}

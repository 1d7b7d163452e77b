package verify_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// flips calls f with the data and each of its bits flipped, one at a time.
func flips(data string, f func(flipped string, bit int)) {
	for bit := range len(data) * 8 {
		b := []byte(data)
		b[bit/8] ^= 1 << (bit % 8)
		f(string(b), bit)
	}
}

// signedRequest is a request that its verifier accepts, with every part of it that a bit may be flipped in.
type signedRequest struct {
	cfg   *tenantconfig.Webhooks
	r     func() *verify.Request
	proof []string // headers that prove it
	// same tells that a flipped body says the same as the right one, where not its bytes are signed but what they say.
	same func(body string) bool
	url  bool // the URL is covered
}

func signedRequests() map[string]signedRequest {
	return map[string]signedRequest{
		"HMAC-SHA1 of the body, hex":       bodySigned(sha1Scheme, hex.EncodeToString),
		"HMAC-SHA256 of the body, base64":  bodySigned(sha256Scheme, base64.StdEncoding.EncodeToString),
		"HMAC-SHA256 of a time and a body": timeSigned(),
		"HMAC-SHA1 of a URL and a form":    urlSigned(),
		"Standard Webhooks":                standardSigned(),
	}
}

func bodySigned(scheme string, encode func([]byte) string) signedRequest {
	return signedRequest{
		cfg:   signatureOf(scheme, firstSecret),
		proof: []string{"X-Exotel-Signature"},
		r: func() *verify.Request {
			return post(statusBody, "X-Exotel-Signature", encode(mac(scheme, firstSecret, statusBody)))
		},
	}
}

func timeSigned() signedRequest {
	cfg := signatureOf(sha256Scheme, firstSecret)
	cfg.Signature.SignedContent = tenantconfig.SignedTimestampAndBody
	cfg.Signature.TimestampHeader = "X-Exotel-Timestamp"
	cfg.Signature.Tolerance = 1 << 62
	return signedRequest{
		cfg:   cfg,
		proof: []string{"X-Exotel-Signature", "X-Exotel-Timestamp"},
		r: func() *verify.Request {
			request := post(
				statusBody,
				"X-Exotel-Signature",
				hex.EncodeToString(mac(sha256Scheme, firstSecret, "1800000000."+statusBody)),
			)
			request.Header.Set("X-Exotel-Timestamp", "1800000000")
			return request
		},
	}
}

func urlSigned() signedRequest {
	cfg := signatureOf(sha1Scheme, firstSecret)
	cfg.Signature.SignedContent = tenantconfig.SignedURLAndParameters
	want := url.Values{"CallSid": {"c1"}, "To": {"+91 80"}}
	return signedRequest{
		cfg:   cfg,
		proof: []string{"X-Exotel-Signature"},
		url:   true,
		r: func() *verify.Request {
			request := post(
				"CallSid=c1&To=%2B91+80",
				"X-Exotel-Signature",
				base64.StdEncoding.EncodeToString(mac(sha1Scheme, firstSecret, webURL+"CallSidc1To+91 80")),
			)
			request.URL = mustURL(webURL)
			request.Header.Set("Content-Type", form)
			return request
		},
		same: func(body string) bool { // "%2B" and "%2b"
			got, err := url.ParseQuery(body)
			return err == nil && got.Encode() == want.Encode()
		},
	}
}

func standardSigned() signedRequest {
	cfg, _ := standardVector()
	cfg.Standard.Tolerance = 1 << 62
	return signedRequest{
		cfg:   cfg,
		proof: []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"},
		r:     func() *verify.Request { _, request := standardVector(); return request },
	}
}

// TestEveryBitCounts flips each bit of each part of signed requests, and of their secrets. The tolerance is wide as can be, so that a
// timestamp is refused for its bits and not for its age.
func TestEveryBitCounts(t *testing.T) {
	for name, s := range signedRequests() {
		t.Run(name, func(t *testing.T) {
			if verdict := verify.Verify(s.cfg, s.r()); !verdict.OK {
				t.Fatalf("as it is, it is judged %+v", verdict)
			}
			got := func(what string, bit int, r *verify.Request) {
				if verdict := verify.Verify(s.cfg, r); verdict.OK {
					t.Errorf("with bit %d of %s flipped it got through: %+v", bit, what, r)
				}
			}
			flips(string(s.r().Body), func(flipped string, bit int) {
				request := s.r()
				if request.Body = []byte(flipped); s.same == nil || !s.same(flipped) {
					got("the body", bit, request)
				}
			})
			for _, h := range s.proof {
				flips(s.r().Header.Get(h), func(flipped string, bit int) {
					request := s.r()
					// The case of hex digits, and of nothing else, is free.
					if request.Header[h] = []string{flipped}; !sameHex(s.r().Header.Get(h), flipped) {
						got(h, bit, request)
					}
				})
			}
			if s.url {
				flipURL(s, got)
			}
		})
		t.Run(name+", secret", func(t *testing.T) {
			flips(secretOf(s.cfg).Reveal(), func(flipped string, bit int) {
				if verify.Verify(withSecret(s.cfg, flipped), s.r()).OK {
					t.Errorf("with bit %d of the secret flipped it got through", bit)
				}
			})
		})
	}
}

// flipURL flips the bits of the path and the query as they are written, and those of the scheme and host.
func flipURL(s signedRequest, got func(string, int, *verify.Request)) {
	flips(s.r().URL.RawQuery, func(flipped string, bit int) {
		request := s.r()
		request.URL.RawQuery = flipped
		got("the query", bit, request)
	})
	flips(s.r().URL.Path, func(flipped string, bit int) {
		request := s.r()
		request.URL.Path = flipped
		got("the path", bit, request)
	})
	flips(s.r().URL.Scheme, func(flipped string, bit int) {
		request := s.r()
		request.URL.Scheme = flipped
		got("the scheme", bit, request)
	})
	flips(s.r().URL.Host, func(flipped string, bit int) {
		request := s.r()
		request.URL.Host = flipped
		got("the host", bit, request)
	})
}

func secretOf(w *tenantconfig.Webhooks) secret.Sensitive {
	if w.Standard != nil {
		return w.Standard.Secrets[0]
	}
	return w.Signature.Secrets[0]
}

// withSecret is the same verifier with another secret.
func withSecret(w *tenantconfig.Webhooks, secret string) *tenantconfig.Webhooks {
	if w.Standard != nil {
		return &tenantconfig.Webhooks{Standard: &tenantconfig.StandardWebhooks{
			Tolerance: w.Standard.Tolerance,
			Secrets:   sensitive(secret),
		}}
	}
	sig := *w.Signature
	sig.Secrets = sensitive(secret)
	return &tenantconfig.Webhooks{Signature: &sig}
}

func sameHex(a, b string) bool {
	x, errA := hex.DecodeString(a)
	y, errB := hex.DecodeString(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// TestEveryBitOfABearerCounts does the same to tokens and passwords.
func TestEveryBitOfABearerCounts(t *testing.T) {
	token := &tenantconfig.Webhooks{Token: &tenantconfig.Token{Secrets: sensitive(secondToken)}}
	flips(secondToken, func(flipped string, bit int) {
		for _, place := range []func(*verify.Request){
			func(r *verify.Request) { r.PathToken = flipped },
			func(r *verify.Request) { r.URL.RawQuery = "token=" + url.PathEscape(flipped) },
			func(r *verify.Request) { r.URL.RawQuery = "token=" + flipped },
		} {
			request := post(statusBody, "Content-Type", form)
			if place(request); verify.Verify(token, request).OK {
				t.Errorf("with bit %d flipped the token got through", bit)
			}
		}
	})
	basic := &tenantconfig.Webhooks{Basic: &tenantconfig.BasicAuth{Users: []tenantconfig.User{{
		Name:     "exotel",
		Password: password,
	}}}}
	flips("exotel:"+password, func(flipped string, bit int) {
		request := post(statusBody, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(flipped)))
		if verify.Verify(basic, request).OK {
			t.Errorf("with bit %d flipped the password got through", bit)
		}
	})
	header := "Basic " + base64.StdEncoding.EncodeToString([]byte("exotel:"+password))
	flips(header, func(flipped string, bit int) {
		request := post(statusBody, "Content-Type", form)
		request.Header["Authorization"] = []string{flipped}
		_, plain, _ := (&http.Request{Header: request.Header}).BasicAuth()
		if verify.Verify(basic, request).OK && plain != password {
			t.Errorf("with bit %d flipped the header %q got through", bit, flipped)
		}
	})
	if !slices.Equal(token.Token.Secrets, sensitive(secondToken)) {
		t.Error("the config was changed")
	}
}

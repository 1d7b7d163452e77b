package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"testing"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestSignedDigest checks that the digest of signed bytes depends on them alone, however they are sent. That of
// Standard Webhooks is of their id.
func TestSignedDigest(t *testing.T) {
	ofBody := sha256.Sum256([]byte(statusBody))
	for name, s := range signedRequests() {
		request := s.r()
		verdict := verify.Verify(s.cfg, request)
		want := sha256.Sum256(request.Body)
		other := s.url || s.cfg.Standard != nil
		if !verdict.OK || len(verdict.SignedDigest) != sha256.Size ||
			bytes.Equal(verdict.SignedDigest, want[:]) == other {
			t.Errorf("%s: %+v, want the digest of the body unless a URL or an id is signed too", name, verdict)
		}
	}
	signature := hex.EncodeToString(mac(sha1Scheme, firstSecret, statusBody))
	asQuery := post("", "X-Exotel-Signature", signature)
	asQuery.Method, asQuery.URL = http.MethodGet, mustURL("https://voice.example/webhooks/exotel/passthru?"+statusBody)
	both := signatureOf(sha1Scheme, firstSecret)
	request := post(statusBody, "X-Exotel-Signature", signature)
	both.Token = &tenantconfig.Token{Secrets: sensitive("a token of acme")}
	request.PathToken = "a token of acme"
	for name, v := range map[string]verify.Verdict{
		"in a query":   verify.Verify(signatureOf(sha1Scheme, firstSecret), asQuery),
		"with a token": verify.Verify(both, request),
	} {
		if !bytes.Equal(v.SignedDigest, ofBody[:]) {
			t.Errorf("%s: %x, want %x", name, v.SignedDigest, ofBody)
		}
	}
	multipart := func(boundary, value string) []byte {
		body := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"CallSid\"\r\n\r\n" + value +
			"\r\n--" + boundary + "--\r\n"
		s := post(body, "X-Exotel-Signature", hex.EncodeToString(mac(sha1Scheme, firstSecret, body)))
		return verify.Verify(signatureOf(sha1Scheme, firstSecret), s).SignedDigest
	}
	if a, b := multipart("x", "c1"), multipart("------yz", "c1"); a == nil || !bytes.Equal(a, b) {
		t.Errorf("%x and %x, want one digest whatever the boundary", a, b)
	}
	if bytes.Equal(multipart("x", "c1"), multipart("x", "c2")) {
		t.Error("two bodies have one digest")
	}
	request.Header.Del("X-Exotel-Signature")
	if verdict := verify.Verify(both, request); !verdict.OK || verdict.SignedDigest != nil {
		t.Errorf("under a token alone: %+v, want no digest", verdict)
	}
}

// TestParametersSplitOtherwiseAreOneEvent checks that a client that has seen one signed request cannot make another
// event of it: the signature of a URL with its parameters does not tell where a name ends and its value begins.
func TestParametersSplitOtherwiseAreOneEvent(t *testing.T) {
	cfg := signatureOf(sha1Scheme, firstSecret)
	cfg.Signature.SignedContent = tenantconfig.SignedURLAndParameters
	signature := hex.EncodeToString(mac(sha1Scheme, firstSecret, webURL+"CallSidc1Statusbusy"))
	verdict := func(body string) verify.Verdict {
		request := post(body, "X-Exotel-Signature", signature)
		request.URL = mustURL(webURL)
		request.Header.Set("Content-Type", form)
		return verify.Verify(cfg, request)
	}
	want := verdict("CallSid=c1&Status=busy")
	for _, body := range []string{"CallSid=c1Statusbusy", "CallSid=c1&Statusb=usy", "CallSidc1=Statusbusy"} {
		if got := verdict(body); !got.OK || !bytes.Equal(got.SignedDigest, want.SignedDigest) {
			t.Errorf("%s: %+v, want the digest %x", body, got, want.SignedDigest)
		}
	}
}

// TestSignatureLeftOut checks that a client cannot make another event of a request with two signatures by leaving out
// one: what identifies the event is the body, which both sign.
func TestSignatureLeftOut(t *testing.T) {
	cfg, request := standardVector()
	both := *cfg
	both.Signature = signatureOf(sha1Scheme, firstSecret).Signature
	request.Header.Set("X-Exotel-Signature", hex.EncodeToString(mac(sha1Scheme, firstSecret, string(request.Body))))
	want := verify.Verify(&both, request)
	request.Header.Del("X-Exotel-Signature")
	if got := verify.Verify(&both, request); !got.OK || !bytes.Equal(got.SignedDigest, want.SignedDigest) {
		t.Errorf("without the other signature: %+v, want the digest %x", got, want.SignedDigest)
	}
}

package verify_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

const (
	form   = "application/x-www-form-urlencoded"
	webURL = "https://voice.example/webhooks/exotel/acme/support/status?a=1&b=%20x"
)

// part is one field of a multipart body with the boundary B.
func part(header, value string) string {
	return "--B\r\nContent-Disposition: form-data; " + header + "\r\n\r\n" + value + "\r\n"
}

func TestURLAndParameters(t *testing.T) {
	const multi = "multipart/form-data; boundary=B"
	json := `{"CallSid":"c1"}`
	digest := sha256.Sum256([]byte(json))
	inURL := webURL + "&bodySHA256="
	for name, tc := range map[string]struct {
		method, url, contentType, body string
		signed                         string // behind the URL
		want                           verify.Verdict
	}{
		"form": {"POST", webURL, form, "b=2&a=1", "a1b2", accepted(true, true)},
		"escapes": {
			"POST",
			webURL,
			form,
			"To=%2B91+80&a%5B0%5D=%26",
			"To+91 80a[0]&",
			accepted(true, true),
		},
		"sorted by bytes": {
			"POST",
			webURL,
			form,
			"b=1&B=2&a=3&_=4",
			"B2_4a3b1",
			accepted(true, true),
		},
		"a name without a value": {"POST", webURL, form, "b&a=", "ab", accepted(true, true)},
		"a name twice": {
			"POST",
			webURL,
			form,
			"a=2&b=3&a=1",
			"a2a1b3",
			accepted(true, true),
		},
		"a name twice, the values in another order": {
			"POST",
			webURL,
			form,
			"a=2&b=3&a=1",
			"a1a2b3",
			refused(verify.ReasonWrongSignature),
		},
		"not sorted": {"POST", webURL, form, "b=2&a=1", "b2a1", refused(verify.ReasonWrongSignature)},
		"one parameter more": {
			"POST",
			webURL,
			form,
			"b=2&a=1&c=3",
			"a1b2",
			refused(verify.ReasonWrongSignature),
		},
		"one parameter less": {"POST", webURL, form, "a=1", "a1b2", refused(verify.ReasonWrongSignature)},
		"multipart": {
			"POST",
			webURL,
			multi,
			part(`name="b"`, "2") + part(`name="a[0]"`, "x y") + "--B--\r\n",
			"a[0]x yb2",
			accepted(true, true),
		},
		"multipart with a file": {
			"POST",
			webURL,
			multi,
			part(`name="b"; filename="f"`, "2") + "--B--\r\n",
			"b2",
			refused(verify.ReasonUnsignedBody),
		},
		"multipart without a name": {
			"POST",
			webURL,
			multi,
			part(`x="b"`, "2") + "--B--\r\n",
			"2",
			refused(verify.ReasonUnsignedBody),
		},
		"multipart that breaks off": {
			"POST",
			webURL,
			multi,
			part(`name="b"`, "2"),
			"b2",
			refused(verify.ReasonUnsignedBody),
		},
		"multipart without a boundary": {
			"POST",
			webURL,
			"multipart/form-data",
			part(`name="b"`, "2") + "--B--\r\n",
			"b2",
			refused(verify.ReasonUnsignedBody),
		},
		"multipart in another transfer": {"POST", webURL, multi,
			part("name=\"b\"\r\nContent-Transfer-Encoding: quoted-printable", "=32") + "--B--\r\n", "b2",
			refused(verify.ReasonUnsignedBody)},
		"multipart of very many parts": {
			"POST",
			webURL,
			multi,
			strings.Repeat(part(`name="b"`, ""), 1001) + "--B--\r\n",
			strings.Repeat("b", 1001),
			refused(verify.ReasonUnsignedBody),
		},
		"a broken escape": {"POST", webURL, form, "a=%zz", "a%zz", refused(verify.ReasonUnsignedBody)},
		"a semicolon":     {"POST", webURL, form, "a=1;b=2", "a1;b=2", refused(verify.ReasonUnsignedBody)},
		"JSON": {
			"POST",
			webURL,
			"application/json",
			json,
			"",
			refused(verify.ReasonUnsignedBody),
		},
		"JSON as text": {
			"POST",
			webURL,
			"application/json",
			json,
			json,
			refused(verify.ReasonUnsignedBody),
		},
		"no content type":       {"POST", webURL, "", "a=1", "a1", refused(verify.ReasonUnsignedBody)},
		"a broken content type": {"POST", webURL, ";", "a=1", "a1", refused(verify.ReasonUnsignedBody)},
		"JSON, its digest in the URL": {
			"POST",
			inURL + hex.EncodeToString(digest[:]),
			"application/json",
			json,
			"",
			accepted(true, true),
		},
		"JSON, its digest in capitals": {
			"POST",
			inURL + strings.ToUpper(hex.EncodeToString(digest[:])),
			"application/json",
			json,
			"",
			accepted(true, true),
		},
		"JSON, another body's digest": {
			"POST",
			inURL + strings.Repeat("0", 64),
			"application/json",
			json,
			"",
			refused(verify.ReasonUnsignedBody),
		},
		"JSON, two digests, the first is right": {"POST", inURL + hex.EncodeToString(digest[:]) + "&bodySHA256=0",
			"application/json", json, "", refused(verify.ReasonUnsignedBody)},
		"JSON, two digests, the last is right": {"POST", inURL + "0&bodySHA256=" + hex.EncodeToString(digest[:]),
			"application/json", json, "", refused(verify.ReasonUnsignedBody)},
		"GET":              {"GET", webURL, "", "", "", accepted(true, false)},
		"GET with a body":  {"GET", webURL, form, "a=1", "", accepted(true, false)},
		"POST of nothing":  {"POST", webURL, form, "", "", accepted(true, false)},
		"escapes in paths": {"GET", "https://voice.example/a%2Fb//c?x=%7e+", "", "", "", accepted(true, false)},
		"an empty query":   {"GET", "https://voice.example/a?", "", "", "", accepted(true, false)},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := signatureOf(sha1Scheme, firstSecret)
			cfg.Signature.SignedContent = tenantconfig.SignedURLAndParameters
			request := post(
				tc.body,
				"X-Exotel-Signature",
				base64.StdEncoding.EncodeToString(mac(sha1Scheme, firstSecret, tc.url+tc.signed)),
			)
			request.Method, request.URL = tc.method, mustURL(tc.url)
			request.Header.Set("Content-Type", tc.contentType)
			wantVerdict(t, tc.want, verify.Verify(cfg, request))
		})
	}
	t.Run("without a URL nothing gets through", func(t *testing.T) {
		cfg := signatureOf(sha1Scheme, firstSecret)
		cfg.Signature.SignedContent = tenantconfig.SignedURLAndParameters
		request := post("", "X-Exotel-Signature", hex.EncodeToString(mac(sha1Scheme, firstSecret, "")))
		request.URL = nil
		request.Method = http.MethodGet
		wantVerdict(t, refused(verify.ReasonWrongSignature), verify.Verify(cfg, request))
	})
}

// TestPartWithLongHeader checks that a header with many parameters, in a body of 1 MiB that nobody has verified yet,
// takes no more memory than the body. It took 20 MiB.
func TestPartWithLongHeader(t *testing.T) {
	var params strings.Builder
	for i := 0; params.Len() < 1<<20; i++ {
		fmt.Fprintf(&params, "; a*%d=b", i)
	}
	cfg := signatureOf(sha1Scheme, firstSecret)
	cfg.Signature.SignedContent = tenantconfig.SignedURLAndParameters
	request := post(
		part(`name="a"`+params.String(), "1")+"--B--\r\n", "Content-Type", "multipart/form-data; boundary=B",
	)
	request.Header.Set("X-Exotel-Signature", strings.Repeat("0", 40))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	verdict := verify.Verify(cfg, request)
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; verdict.OK || allocated > 1<<20 {
		t.Errorf("%+v with %d KiB allocated, want it refused with 1 MiB at most", verdict, allocated>>10)
	}
}

package verify_test

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the scheme
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

const (
	firstSecret  = "the first signing secret"
	secondSecret = "the second signing secret"
	statusBody   = "CallSid=c1&Status=completed"
)

// mac computes an HMAC independently of the package. The tests compare the package's results with it.
func mac(scheme, key, data string) []byte {
	newHash := sha1.New
	if scheme == sha256Scheme {
		newHash = sha256.New
	}
	hash := hmac.New(newHash, []byte(key))
	hash.Write([]byte(data))
	return hash.Sum(nil)
}

func accepted(query, body bool) verify.Verdict {
	return verify.Verdict{OK: true, CoversQuery: query, CoversBody: body}
}
func refused(reason string) verify.Verdict { return verify.Verdict{Reason: reason} }
func missing(reason string) verify.Verdict { return verify.Verdict{Reason: reason, Missing: true} }

func wantVerdict(t *testing.T, want, got verify.Verdict) {
	t.Helper()
	got.SignedDigest = nil // TestSignedDigest looks at it
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
}

// TestSignatureSpellings tries one true sum, in every spelling, with each encoding, and then wrong spellings.
func TestSignatureSpellings(t *testing.T) {
	for _, scheme := range []string{sha1Scheme, sha256Scheme} {
		sum := mac(scheme, firstSecret, statusBody)
		lower := hex.EncodeToString(sum)
		b64 := base64.StdEncoding.EncodeToString(sum)
		own := strings.ToLower(strings.TrimPrefix(scheme, "HMAC")) + "="
		other := map[string]string{sha1Scheme: "sha256=", sha256Scheme: "sha1="}[scheme]
		for name, tc := range map[string]struct {
			value, encoding, prefix string
			want                    bool
		}{
			"hex":               {lower, "", "", true},
			"hex in upper case": {strings.ToUpper(lower), "", "", true},
			"hex in both cases": {
				strings.ToUpper(lower[:7]) + lower[7:],
				tenantconfig.EncodingHex,
				"",
				true,
			},
			"base64":                       {b64, "", "", true},
			"any, named":                   {b64, tenantconfig.EncodingAny, "", true},
			"base64, as wanted":            {b64, tenantconfig.EncodingBase64, "", true},
			"hex, base64 wanted":           {lower, tenantconfig.EncodingBase64, "", false},
			"base64, hex wanted":           {b64, tenantconfig.EncodingHex, "", false},
			"scheme's prefix":              {own + lower, "", "", true},
			"scheme's prefix and base64":   {own + b64, "", "", true},
			"scheme's prefix twice":        {own + own + lower, "", "", false},
			"scheme's prefix, upper case":  {strings.ToUpper(own) + lower, "", "", false},
			"another scheme's prefix":      {other + lower, "", "", false},
			"tenant's prefix":              {"v1=" + lower, "", "v1=", true},
			"tenant's, the scheme's there": {own + lower, "", "v1=", true},
			"tenant's prefix, not there":   {lower, "", "v1=", false},
			"both prefixes":                {"v1=" + own + lower, "", "v1=", false},
			"a prefix that is not wanted":  {"v1=" + lower, "", "", false},
			"base64 without its padding":   {strings.TrimRight(b64, "="), "", "", false},
			"base64 of URLs": {
				base64.URLEncoding.EncodeToString(sum),
				"",
				"",
				!strings.ContainsAny(b64, "+/"),
			},
			"base64 with a line break":  {b64[:len(b64)-1] + "\n", "", "", false},
			"base64, other bits at end": {otherTail(b64), "", "", false},
			"empty":                     {"", "", "", false},
			"prefix alone":              {own, "", "", false},
			"blank":                     {" ", "", "", false},
			"a blank in front":          {" " + lower, "", "", false},
			"a blank behind":            {lower + " ", "", "", false},
			"a line break behind":       {lower + "\n", "", "", false},
			"one byte less":             {lower[:len(lower)-2], "", "", false},
			"half a byte less":          {lower[:len(lower)-1], "", "", false},
			"one byte more":             {lower + "00", "", "", false},
			"twice":                     {lower + lower, "", "", false},
			"two in a list":             {lower + "," + lower, "", "", false},
			"first byte alone":          {lower[:2], "", "", false},
			"zeros":                     {strings.Repeat("0", len(lower)), "", "", false},
			"no hex":                    {strings.Repeat("z", len(lower)), "", "", false},
			"as bytes":                  {string(sum), "", "", false},
			"hex of hex":                {hex.EncodeToString([]byte(lower)), "", "", false},
			"base64 of hex":             {base64.StdEncoding.EncodeToString([]byte(lower)), "", "", false},
			"another secret's": {
				hex.EncodeToString(mac(scheme, "a third signing secret", statusBody)),
				"",
				"",
				false,
			},
			"empty secret's":  {hex.EncodeToString(mac(scheme, "", statusBody)), "", "", false},
			"an empty body's": {hex.EncodeToString(mac(scheme, firstSecret, "")), "", "", false},
		} {
			t.Run(scheme+", "+name, func(t *testing.T) {
				cfg := signatureOf(scheme, firstSecret)
				cfg.Signature.Encoding = tc.encoding
				cfg.Signature.Prefix = tc.prefix
				verdict := verify.Verify(cfg, post(statusBody, "X-Exotel-Signature", tc.value))
				want := accepted(false, true)
				if !tc.want {
					want = refused(verify.ReasonWrongSignature)
				}
				if tc.value == "" {
					want = missing(verify.ReasonMissingSignature)
				}
				wantVerdict(t, want, verdict)
			})
		}
	}
}

// otherTail changes bits of padded base64 that are behind the sum's end: a lax decoder reads the same sum.
func otherTail(b64 string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := strings.IndexByte(b64, '=') - 1
	return b64[:i] + string(alphabet[strings.IndexByte(alphabet, b64[i])^1]) + b64[i+1:]
}

func TestSignatureRequests(t *testing.T) {
	hexOf := func(data string) string { return hex.EncodeToString(mac(sha1Scheme, firstSecret, data)) }
	for name, tc := range map[string]struct {
		change func(*tenantconfig.Webhooks, *verify.Request)
		want   verify.Verdict
	}{
		"as it is": {func(*tenantconfig.Webhooks, *verify.Request) {}, accepted(false, true)},
		"header in lower case": {
			func(w *tenantconfig.Webhooks, _ *verify.Request) { w.Signature.Header = "x-exotel-signature" },
			accepted(false, true),
		},
		"another header": {func(w *tenantconfig.Webhooks, r *verify.Request) {
			w.Signature.Header = "X-Relay-Mac"
			r.Header = http.Header{"X-Relay-Mac": {hexOf(statusBody)}}
		}, accepted(false, true)},
		"in another header than wanted": {func(w *tenantconfig.Webhooks, _ *verify.Request) {
			w.Signature.Header = "X-Relay-Mac"
		},
			refused(verify.ReasonMissingSignature)},
		"none": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Header = http.Header{} },
			missing(verify.ReasonMissingSignature),
		},
		"header twice, both right": {func(_ *tenantconfig.Webhooks, r *verify.Request) {
			r.Header.Add("X-Exotel-Signature", hexOf(statusBody))
		},
			refused(verify.ReasonWrongSignature)},
		"header twice, one empty": {func(_ *tenantconfig.Webhooks, r *verify.Request) {
			r.Header.Add("X-Exotel-Signature", "")
		},
			refused(verify.ReasonWrongSignature)},
		"second secret": {func(w *tenantconfig.Webhooks, _ *verify.Request) {
			w.Signature.Secrets = sensitive(secondSecret, firstSecret)
		}, accepted(false, true)},
		"last of many secrets": {func(w *tenantconfig.Webhooks, _ *verify.Request) {
			w.Signature.Secrets = nil
			for i := range tenantconfig.MaxSecrets - 1 {
				w.Signature.Secrets = append(w.Signature.Secrets, secret.Sensitive(fmt.Sprintf("signing secret %d", i)))
			}
			w.Signature.Secrets = append(w.Signature.Secrets, firstSecret)
		}, accepted(false, true)},
		"the secret is gone": {
			func(w *tenantconfig.Webhooks, _ *verify.Request) { w.Signature.Secrets = sensitive(secondSecret) },
			refused(verify.ReasonWrongSignature),
		},
		"no secret at all": {
			func(w *tenantconfig.Webhooks, _ *verify.Request) { w.Signature.Secrets = nil },
			refused(verify.ReasonWrongSignature),
		},
		"an unknown scheme": {
			func(w *tenantconfig.Webhooks, _ *verify.Request) { w.Signature.Scheme = "NONE" },
			refused(verify.ReasonWrongSignature),
		},
		"no scheme": {
			func(w *tenantconfig.Webhooks, _ *verify.Request) { w.Signature.Scheme = "" },
			refused(verify.ReasonWrongSignature),
		},
		"an unknown content": {
			func(w *tenantconfig.Webhooks, _ *verify.Request) { w.Signature.SignedContent = "Nothing" },
			refused(verify.ReasonWrongSignature),
		},
		"the other scheme's": {
			func(w *tenantconfig.Webhooks, _ *verify.Request) { w.Signature.Scheme = sha256Scheme },
			refused(verify.ReasonWrongSignature),
		},
		"a query next to it": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.URL.RawQuery = "Status=failed" },
			accepted(false, true),
		},
		"no URL": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.URL = nil },
			accepted(false, true),
		},
		"another body": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Body = []byte("CallSid=c2") },
			refused(verify.ReasonWrongSignature),
		},
		"the body's end gone": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Body = r.Body[:len(r.Body)-1] },
			refused(verify.ReasonWrongSignature),
		},
		"GET, its query signed": {func(_ *tenantconfig.Webhooks, r *verify.Request) {
			r.Method = http.MethodGet
			r.Body = nil
			r.URL.RawQuery = statusBody
		}, accepted(true, false)},
		"GET, with a body": {func(_ *tenantconfig.Webhooks, r *verify.Request) {
			r.Method, r.Body, r.URL.RawQuery = http.MethodGet, []byte("CallSid=c2"), statusBody
		}, accepted(true, false)},
		"GET, its body signed": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Method = http.MethodGet },
			refused(verify.ReasonWrongSignature),
		},
		"POST without a body, its query signed": {func(_ *tenantconfig.Webhooks, r *verify.Request) {
			r.Body = nil
			r.URL.RawQuery = statusBody
		},
			accepted(true, false)},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := signatureOf(sha1Scheme, firstSecret)
			request := post(statusBody, "X-Exotel-Signature", hexOf(statusBody))
			tc.change(cfg, request)
			wantVerdict(t, tc.want, verify.Verify(cfg, request))
		})
	}
}

func TestTimestampAndBody(t *testing.T) {
	const signedAt = 1_800_000_000
	stamp := fmt.Sprint(signedAt)
	for name, tc := range map[string]struct {
		stamps []string // in the header; the first one is signed
		body   string   // what is signed behind the stamp, if not the body
		now    time.Duration
		want   verify.Verdict
	}{
		"now":                    {[]string{stamp}, "", 0, accepted(false, true)},
		"at the tolerance's end": {[]string{stamp}, "", 5 * time.Minute, accepted(false, true)},
		"within that second": {
			[]string{stamp},
			"",
			5*time.Minute + 999*time.Millisecond,
			accepted(false, true),
		},
		"a second older": {
			[]string{stamp},
			"",
			5*time.Minute + time.Second,
			refused(verify.ReasonStaleTimestamp),
		},
		"from a clock ahead": {[]string{stamp}, "", -5 * time.Minute, accepted(false, true)},
		"from one too far ahead": {
			[]string{stamp},
			"",
			-5*time.Minute - time.Second,
			refused(verify.ReasonStaleTimestamp),
		},
		"stale and wrong":            {[]string{stamp}, "x", time.Hour, refused(verify.ReasonWrongSignature)},
		"wrong":                      {[]string{stamp}, "x", 0, refused(verify.ReasonWrongSignature)},
		"no timestamp":               {nil, "", 0, refused(verify.ReasonBadTimestamp)},
		"an empty one":               {[]string{""}, "", 0, refused(verify.ReasonBadTimestamp)},
		"two":                        {[]string{stamp, stamp}, "", 0, refused(verify.ReasonBadTimestamp)},
		"with a sign":                {[]string{"+" + stamp}, "", 0, refused(verify.ReasonBadTimestamp)},
		"negative":                   {[]string{"-" + stamp}, "", 0, refused(verify.ReasonBadTimestamp)},
		"in milliseconds":            {[]string{stamp + "000"}, "", 0, refused(verify.ReasonBadTimestamp)},
		"with a fraction":            {[]string{stamp + ".5"}, "", 0, refused(verify.ReasonBadTimestamp)},
		"with a blank":               {[]string{" " + stamp}, "", 0, refused(verify.ReasonBadTimestamp)},
		"in hex":                     {[]string{"0x6b49d200"}, "", 0, refused(verify.ReasonBadTimestamp)},
		"in other digits":            {[]string{"१८००००००००"}, "", 0, refused(verify.ReasonBadTimestamp)},
		"the largest that is read":   {[]string{"999999999999"}, "", 0, refused(verify.ReasonStaleTimestamp)},
		"beyond int64":               {[]string{"99999999999999999999"}, "", 0, refused(verify.ReasonBadTimestamp)},
		"as a date":                  {[]string{"2027-01-15T08:00:00Z"}, "", 0, refused(verify.ReasonBadTimestamp)},
		"zeros in front, now signed": {[]string{"00" + stamp}, "", 0, accepted(false, true)},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := signatureOf(sha256Scheme, firstSecret)
			cfg.Signature.SignedContent = tenantconfig.SignedTimestampAndBody
			cfg.Signature.TimestampHeader = "X-Exotel-Timestamp"
			cfg.Signature.Tolerance = 5 * time.Minute
			first := append(tc.stamps, "")[0]
			request := post(
				statusBody,
				"X-Exotel-Signature",
				hex.EncodeToString(mac(sha256Scheme, firstSecret, first+"."+statusBody+tc.body)),
			)
			for _, s := range tc.stamps {
				request.Header.Add("X-Exotel-Timestamp", s)
			}
			request.Now = time.Unix(signedAt, 0).Add(tc.now)
			wantVerdict(t, tc.want, verify.Verify(cfg, request))
			request.Header.Del("X-Exotel-Signature")
			if verdict := verify.Verify(cfg, request); verdict.OK || verdict.Reason != verify.ReasonMissingSignature {
				t.Errorf("without a signature it was judged %+v", verdict)
			}
		})
	}
	t.Run("without a header's name nothing gets through", func(t *testing.T) {
		cfg := signatureOf(sha256Scheme, firstSecret)
		cfg.Signature.SignedContent = tenantconfig.SignedTimestampAndBody
		cfg.Signature.Tolerance = 5 * time.Minute
		wantVerdict(t, refused(verify.ReasonBadTimestamp), verify.Verify(cfg, post(statusBody, "X-Exotel-Signature",
			hex.EncodeToString(mac(sha256Scheme, firstSecret, "."+statusBody)))))
	})
}

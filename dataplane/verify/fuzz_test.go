package verify_test

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the scheme
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// hmacSHA1 is RFC 2104 written out, to judge the package by.
func hmacSHA1(key, data []byte) []byte {
	var block [64]byte
	if len(key) > len(block) {
		sum := sha1.Sum(key)
		key = sum[:]
	}
	copy(block[:], key)
	inner := make([]byte, 0, 64+len(data))
	outer := make([]byte, 0, 64+sha1.Size)
	for _, b := range block {
		inner, outer = append(inner, b^0x36), append(outer, b^0x5c)
	}
	sum := sha1.Sum(append(inner, data...))
	sum = sha1.Sum(append(outer, sum[:]...))
	return sum[:]
}

// FuzzSignature verifies that only the true signature is accepted, in its four spellings.
func FuzzSignature(f *testing.F) {
	sum := hmacSHA1([]byte(firstSecret), []byte(statusBody))
	lower := hex.EncodeToString(sum)
	b64 := base64.StdEncoding.EncodeToString(sum)
	for _, s := range []string{lower, b64, "sha1=" + lower, "sha1=sha1=" + lower, lower[:39] + "\n", b64[:27] + "\n", otherTail(b64), ""} {
		f.Add([]byte(firstSecret), []byte(statusBody), s)
	}
	f.Fuzz(func(t *testing.T, key, body []byte, signature string) {
		if len(body) == 0 {
			return // then the query is signed
		}
		sum := hmacSHA1(key, body)
		bare := strings.TrimPrefix(signature, "sha1=")
		want := strings.EqualFold(bare, hex.EncodeToString(sum)) || bare == base64.StdEncoding.EncodeToString(sum)
		cfg := signatureOf(sha1Scheme, string(key))
		request := post(string(body), "X-Exotel-Signature", signature)
		if verdict := verify.Verify(cfg, request); verdict.OK != want {
			t.Errorf("signature %q: %+v, want %v", signature, verdict, want)
		}
		request.Header.Set("X-Exotel-Signature", hex.EncodeToString(sum))
		if !verify.Verify(cfg, request).OK {
			t.Error("the true signature is refused")
		}
		request.Body = append(slices.Clone(body), 0)
		if verify.Verify(cfg, request).OK {
			t.Error("the signature of another body got through")
		}
	})
}

// FuzzURLAndParameters verifies that an accepted form has the parameters that net/http reads. A body that net/http
// reads in another way is rejected, whatever is signed.
func FuzzURLAndParameters(f *testing.F) {
	f.Add("https://voice.example/a?x=1", form, "b=2&a=1&a=%2B&b")
	f.Add(
		"https://voice.example/a",
		"multipart/form-data; boundary=B",
		part(`name="a"`, "1")+part(`name="A"; x=y`, "")+"--B--\r\n",
	)
	f.Add(
		"https://voice.example/a?bodySHA256=44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
		"application/json",
		"{}",
	)
	f.Add("https://voice.example/a", form, "a=%zz&b;c")
	cfg := signatureOf(sha1Scheme, firstSecret)
	cfg.Signature.SignedContent = tenantconfig.SignedURLAndParameters
	f.Fuzz(func(t *testing.T, rawURL, contentType, body string) {
		address, err := url.Parse(rawURL)
		if err != nil || body == "" || strings.Contains(address.RawQuery, "SHA256") {
			return
		}
		request := post(body, "Content-Type", contentType)
		request.URL = address
		values, readable := readForm(request)
		signed := address.String()
		for _, name := range slices.Sorted(maps.Keys(values)) {
			for _, value := range values[name] {
				signed += name + value
			}
		}
		request.Header.Set("X-Exotel-Signature", hex.EncodeToString(hmacSHA1([]byte(firstSecret), []byte(signed))))
		switch verdict := verify.Verify(cfg, request); {
		case verdict.OK && (!readable || !verdict.CoversBody || !verdict.CoversQuery):
			t.Fatalf("%q as %q got through: %+v", body, contentType, verdict)
		case readable && verdict.Reason == verify.ReasonWrongSignature:
			t.Fatalf("%q as %q reads as %q, and not so for the verifier", body, contentType, values)
		}
	})
}

// readForm reads a body as net/http does; false if that is an error.
func readForm(r *verify.Request) (url.Values, bool) {
	req := &http.Request{
		Method: http.MethodPost,
		Header: r.Header,
		URL:    &url.URL{},
		Body:   io.NopCloser(bytes.NewReader(r.Body)),
	}
	if err := req.ParseMultipartForm(1 << 20); err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return nil, false
	}
	if req.MultipartForm != nil {
		return req.MultipartForm.Value, true
	}
	return req.PostForm, true
}

// FuzzStandardWebhooks verifies that only a header with the true signature is accepted, and only near its time.
func FuzzStandardWebhooks(f *testing.F) {
	_, vector := standardVector()
	f.Add("msg_1", "1614265330", "v1,", string(vector.Body), int64(1614265330))
	f.Add("", "-1", "v1a,x v1,y ", "", int64(0))
	f.Add("a.b", "00", "v1,"+strings.Repeat("A", 43)+"=", "x", int64(300))
	cfg, _ := standardVector()
	key := cfg.Standard.Secrets[0].Reveal()
	f.Fuzz(func(t *testing.T, id, stamp, signatures, body string, now int64) {
		request := post(body, "webhook-id", id)
		request.Header.Set("webhook-timestamp", stamp)
		request.Header.Set("webhook-signature", signatures)
		request.Now = time.Unix(now, 0)
		truth := "v1," + base64.StdEncoding.EncodeToString(mac(sha256Scheme, key, id+"."+stamp+"."+body))
		if verdict := verify.Verify(cfg, request); verdict.OK &&
			!slices.Contains(strings.Split(signatures, " "), truth) {
			t.Fatalf("%q got through: %+v", signatures, verdict)
		}
		request.Header.Set("webhook-signature", truth)
		signedAt, err := strconv.ParseUint(stamp, 10, 64)
		age := new(big.Int).Sub(big.NewInt(now), new(big.Int).SetUint64(signedAt))
		timely := err == nil && len(stamp) <= 12 && age.CmpAbs(big.NewInt(300)) <= 0
		want := id != "" && !strings.Contains(id, ".") && timely
		if verdict := verify.Verify(cfg, request); verdict.OK != want {
			t.Fatalf("id %q, timestamp %q at %d: %+v, want %v", id, stamp, now, verdict, want)
		}
	})
}

// FuzzToken verifies that only a token of the list is accepted, in the path or the query and in any encoding.
func FuzzToken(f *testing.F) {
	f.Add("token="+secondToken, "", firstToken, secondToken)
	f.Add("a=1&token=first%2Dtoken&token=x", "first-token", firstToken, secondToken)
	f.Add("token", "x", "x", "y")
	f.Add("%74oken=+%zz", "", "+%zz", "y")
	f.Fuzz(func(t *testing.T, query, path, first, second string) {
		// A form's reader, for which "+" is spelled so that it stays one.
		values, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B"))
		if err != nil {
			return
		}
		sent := slices.DeleteFunc(append(values["token"], path), func(s string) bool { return s == "" })
		slices.Sort(sent)
		sent = slices.Compact(sent)
		want := len(sent) == 1 && (sent[0] == first || sent[0] == second)
		cfg := &tenantconfig.Webhooks{Token: &tenantconfig.Token{Secrets: sensitive(first, second)}}
		request := post(statusBody, "Content-Type", form)
		request.URL.RawQuery = query
		request.PathToken = path
		if verdict := verify.Verify(cfg, request); verdict.OK != want {
			t.Fatalf("query %q, path %q: %+v, want %v", query, path, verdict, want)
		}
	})
}

// FuzzBasicAuth verifies that only a name with its own password is accepted.
func FuzzBasicAuth(f *testing.F) {
	f.Add("Basic ZXhvdGVsOnBhc3N3b3Jk", "exotel", "password")
	f.Add("basic OjphOg==", "", ":a:")
	f.Add("Basic", "a", "b")
	f.Fuzz(func(t *testing.T, header, name, password string) {
		cfg := &tenantconfig.Webhooks{Basic: &tenantconfig.BasicAuth{Users: []tenantconfig.User{{
			Name:     "x",
			Password: "a password",
		},
			{Name: name, Password: secret.Sensitive(password)}}}}
		request := post(statusBody, "Authorization", header)
		gotName, gotPassword, ok := (&http.Request{Header: request.Header}).BasicAuth()
		want := ok && (gotName == name && gotPassword == password || gotName == "x" && gotPassword == "a password")
		if verdict := verify.Verify(cfg, request); verdict.OK != want {
			t.Fatalf("%q with %q: %+v, want %v", header, name+":"+password, verdict, want)
		}
	})
}

// FuzzClientAddress verifies that the address is a trusted proxy's only if all hops are. An address that only the
// client wrote is never used.
func FuzzClientAddress(f *testing.F) {
	f.Add("10.0.0.1:1", "203.0.113.7, 10.0.0.2", "198.51.100.1")
	f.Add("[fd00::1]:1", "[2001:db8::1]:1,,", "::ffff:10.0.0.1%x")
	f.Add("203.0.113.7:1", "x", "")
	f.Fuzz(func(t *testing.T, remote, line, forged string) {
		peer, err := netip.ParseAddrPort(remote)
		if err != nil {
			return
		}
		got := verify.ClientAddress(peer, []string{line}, proxies)
		again := verify.ClientAddress(peer, []string{forged, line}, proxies)
		trusted := func(a netip.Addr) bool {
			return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
		}
		if got.IsValid() && !trusted(got) && again != got {
			t.Fatalf("%q in front of %q makes %s of %s", forged, line, again, got)
		}
		if !trusted(peer.Addr().Unmap().WithZone("")) && got != peer.Addr().Unmap().WithZone("") {
			t.Fatalf("a peer that is not a proxy is taken for %s", got)
		}
		if got.Is4In6() || got.Zone() != "" {
			t.Fatalf("%s is not in its plain form", got)
		}
	})
}

package s3test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const dateFormat = "20060102T150405Z"

// authenticate verifies the signature of a request, version 4, in Amazon's order of refusals.
func (s *Strict) authenticate(w http.ResponseWriter, r *http.Request, body []byte) *Refusal {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=")
	fields := strings.FieldsFunc(rest, func(c rune) bool { return c == ',' || c == ' ' })
	if !ok || len(fields) != 3 {
		return &Refusal{403, "AccessDenied", "Access Denied", ""}
	}
	scope := strings.Split(fields[0], "/")
	if len(scope) != 5 {
		return unknownKey()
	}
	secret, no := s.secretOf(scope[0], r.Header.Get("X-Amz-Security-Token"))
	if no != nil {
		return no
	}
	if no := s.checkTime(r.Header.Get("X-Amz-Date")); no != nil {
		return no
	}
	if no := s.checkRegion(w, scope[2]); no != nil {
		return no
	}
	signed := strings.Split(strings.TrimPrefix(fields[1], "SignedHeaders="), ";")
	want := signature(r, signed, scope, secret)
	if strings.TrimPrefix(fields[2], "Signature=") != want {
		return &Refusal{403, "SignatureDoesNotMatch",
			"The request signature we calculated does not match the signature you provided. Check your key and " +
				"signing method.", ""}
	}
	return checkPayload(r.Header.Get("X-Amz-Content-Sha256"), body)
}

// checkTime has the texts of https://gist.github.com/ryanmr/57ab14bd87ab4be7079f.
func (s *Strict) checkTime(date string) *Refusal {
	now := time.Now().Add(s.rules.Skew).UTC()
	at, err := time.Parse(dateFormat, date)
	if err != nil {
		return &Refusal{403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header", ""}
	}
	if now.Sub(at).Abs() > 15*time.Minute {
		return &Refusal{403, "RequestTimeTooSkewed",
			"The difference between the request time and the current time is too large.",
			"<RequestTime>" + date + "</RequestTime><ServerTime>" + now.Format(time.RFC3339) +
				"</ServerTime><MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>"}
	}
	return nil
}

// checkRegion has the texts of jsoma/flatware#10, and of rafelamer's in s3fs-fuse/s3fs-fuse#1195 for the redirect.
func (s *Strict) checkRegion(w http.ResponseWriter, region string) *Refusal {
	if region == s.rules.Region {
		return nil
	}
	w.Header().Set("X-Amz-Bucket-Region", s.rules.Region)
	if s.rules.Redirect {
		return &Refusal{301, "PermanentRedirect",
			"The bucket you are attempting to access must be addressed using the specified " +
				"endpoint. Please send all future requests to this endpoint.",
			"<Endpoint>" + s.Bucket + ".s3." + s.rules.Region + ".amazonaws.com</Endpoint><Bucket>" + s.Bucket +
				"</Bucket>"}
	}
	return &Refusal{
		400,
		"AuthorizationHeaderMalformed",
		"The authorization header is malformed; the region '" + region +
			"' is wrong; expecting '" + s.rules.Region + "'",
		"<Region>" + s.rules.Region + "</Region>",
	}
}

func checkPayload(sum string, body []byte) *Refusal {
	if sum == "UNSIGNED-PAYLOAD" {
		return nil
	}
	got := sha256.Sum256(body)
	if sum != hex.EncodeToString(got[:]) {
		return &Refusal{400, "XAmzContentSHA256Mismatch",
			"The provided 'x-amz-content-sha256' header does not match what was computed.", ""}
	}
	return nil
}

// signature computes what the client must have sent.
func signature(r *http.Request, signed, scope []string, secret string) string {
	var head strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = r.Header.Get("Content-Length")
		}
		head.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	var query []string
	for name, values := range r.URL.Query() {
		for _, v := range values {
			query = append(query, escape(name)+"="+escape(v))
		}
	}
	slices.Sort(query)
	request := strings.Join([]string{r.Method, r.URL.EscapedPath(), strings.Join(query, "&"), head.String(),
		strings.Join(signed, ";"), r.Header.Get("X-Amz-Content-Sha256")}, "\n")
	sum := sha256.Sum256([]byte(request))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), strings.Join(scope[1:], "/"),
		hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range scope[1:] {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, text))
}

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func mac(key []byte, text string) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(text))
	return hash.Sum(nil)
}

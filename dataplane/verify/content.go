package verify

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// content is what a signature is made over, what that covers of the request, and why it cannot be verified, if it cannot.
type content struct {
	parts       [][]byte
	query, body bool
	refusal     string
	whole       []byte // the body, or the query in its place, where all of it is signed; nil otherwise
}

// accepted is the finding that the signature is right. A time of signing is not part of its digest: a sender signs a
// repeat of an event again.
func (c content) accepted() finding {
	f := finding{query: c.query, body: c.body, whole: c.whole != nil}
	if f.whole {
		f.digest = wholeDigest(c.whole)
		return f
	}
	// The bytes as they are signed, without a mark between names and values. A signature that is right for them is right
	// for parameters that are split otherwise too, and these must not be another event.
	hash := sha256.New()
	for _, p := range c.parts {
		_, _ = hash.Write(p) // a hash never fails
	}
	f.digest = hash.Sum(nil)
	return f
}

// wholeDigest is a SHA-256 of what is signed, without the boundary of a multipart body: a sender makes another one at
// each delivery. The boundary is read from the bytes themselves, since an attacker can change the Content-Type.
func wholeDigest(signed []byte) []byte {
	hash := sha256.New()
	if boundary := delimiter(signed); boundary != nil {
		for part := range bytes.SplitSeq(signed, boundary) {
			_, _ = fmt.Fprintf(hash, "%d:%s", len(part), part) // a hash never fails
		}
		return hash.Sum(nil)
	}
	_, _ = hash.Write(signed)
	return hash.Sum(nil)
}

// delimiter returns the first line of a multipart body, which is "--" and its boundary of at most 70 bytes (RFC 2046);
// nil for any other.
func delimiter(body []byte) []byte {
	line, _, found := bytes.Cut(body, []byte("\r\n"))
	if !found || len(line) < 3 || len(line) > 72 || !bytes.HasPrefix(line, []byte("--")) {
		return nil
	}
	return line
}

func signedContent(cfg *tenantconfig.Signature, r *Request) content {
	switch or(cfg.SignedContent, tenantconfig.SignedBody) {
	case tenantconfig.SignedBody:
		return payload(r)
	case tenantconfig.SignedURLAndParameters:
		return urlAndParameters(r)
	case tenantconfig.SignedTimestampAndBody:
		stamp, _ := only(r.Header, cfg.TimestampHeader)
		c := payload(r)
		c.parts = [][]byte{[]byte(stamp), []byte("."), c.parts[0]}
		c.refusal = checkTimestamp(stamp, cfg.Tolerance, r.Now)
		return c
	}
	return content{refusal: ReasonWrongSignature} // the codec lets none through
}

// payload is the body, or the raw query of a request without one: Passthru comes as a GET.
func payload(r *Request) content {
	if r.Method == http.MethodGet || len(r.Body) == 0 {
		query := []byte(rawQuery(r))
		return content{parts: [][]byte{query}, query: true, whole: query}
	}
	return content{parts: [][]byte{r.Body}, body: true, whole: r.Body}
}

// urlAndParameters returns what Twilio signs: the URL with its query, then name and value of each of the form's
// parameters in the order of their names. Any other body is covered only by its digest in the signed URL, in the
// parameter bodySHA256.
func urlAndParameters(r *Request) content {
	if r.URL == nil {
		return content{refusal: ReasonWrongSignature}
	}
	c := content{parts: [][]byte{[]byte(r.URL.String())}, query: true}
	if r.Method == http.MethodGet || len(r.Body) == 0 {
		return c
	}
	pairs, form := formPairs(r)
	c.body = form || hasBodyDigest(r)
	if !c.body {
		c.refusal = ReasonUnsignedBody
	}
	// Stable: which of two values of one name comes first is covered too.
	slices.SortStableFunc(pairs, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	for _, p := range pairs {
		c.parts = append(c.parts, []byte(p[0]), []byte(p[1]))
	}
	return c
}

// hasBodyDigest tells whether the query names the body's SHA-256, in hex.
func hasBodyDigest(r *Request) bool {
	sum := sha256.Sum256(r.Body)
	named := ""
	found := 0
	for name, value := range queryPairs(rawQuery(r)) {
		if name == "bodySHA256" {
			named = value
			found++
		}
	}
	return found == 1 &&
		subtle.ConstantTimeCompare([]byte(strings.ToLower(named)), []byte(hex.EncodeToString(sum[:]))) == 1
}

// formPairs returns the parameters of a form, in their order; false if the body is not a form, or can be read in
// several ways.
func formPairs(r *Request) ([][2]string, bool) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, false
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		return urlencodedPairs(r.Body)
	case "multipart/form-data":
		return multipartPairs(r.Body, params["boundary"])
	}
	return nil, false
}

// Bounds of a form whose fields are signed. No webhook comes near them.
const (
	maxParts = 1000
	maxText  = 256 << 10 // bytes of all names and values
)

func urlencodedPairs(body []byte) (list [][2]string, ok bool) {
	// A reader may read a field with ";" or a broken escape in another way, so a form with one is not accepted.
	pairs, err := bounded.Form(body, bounded.Limits{Values: maxParts, Text: maxText, Total: maxText}, nil)
	if err != nil {
		return nil, false
	}
	list = make([][2]string, 0, len(pairs))
	for _, p := range pairs {
		list = append(list, [2]string{p.Name, p.Value})
	}
	return list, true
}

func multipartPairs(body []byte, boundary string) (pairs [][2]string, ok bool) {
	if boundary == "" {
		return nil, false
	}
	reader, err := bounded.Multipart(body, boundary)
	if err != nil {
		return nil, false
	}
	for left := maxText; len(pairs) <= maxParts; {
		part, err := reader.NextRawPart()
		if err == io.EOF { //nolint:errorlint // NextRawPart returns it as it is at the end; a wrapped one is a body that broke off
			return pairs, true
		}
		if err != nil || part.FormName() == "" || part.FileName() != "" ||
			part.Header.Get("Content-Transfer-Encoding") != "" {
			return nil, false
		}
		value, err := io.ReadAll(io.LimitReader(part, int64(left)+1))
		if left -= len(value) + len(part.FormName()); err != nil || left < 0 {
			return nil, false
		}
		pairs = append(pairs, [2]string{part.FormName(), string(value)})
	}
	return nil, false
}
